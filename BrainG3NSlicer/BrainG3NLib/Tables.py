"""Readings, effects and trajectories as table and plot nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import slicer
import vtk

from braing3n_core.schema import Effect, Reading
from braing3n_core.wording import certainty_text, drift_text, familiar_text, number, quality_text, value_text

from .Scene import Run

READING_COLUMNS = ("Task", "Prediction", "Unit", "Interval or probabilities", "Quality of the probe", "Familiar scan")
QUALITY_COLUMNS = ("Measure", "Value")
EFFECT_COLUMNS = ("Task", "Verdict", "Before", "After", "Drift", "Counts above", "Unit")
SHORT_READING_COLUMNS = ("Task", "Prediction", "Interval or probabilities", "Familiar", "Quality of the probe")
SHORT_EFFECT_COLUMNS = EFFECT_COLUMNS[:5]
"""Of the panel, which is narrow; nodes and files have the long ones."""


def taskName(task: str) -> str:
    """``ventricle_volume`` in words."""
    return task.replace("_", " ").capitalize()


def readingRows(readings: Iterable[Reading]) -> list[tuple[str, ...]]:
    """One row a reading, sorted by task."""
    return [
        (taskName(r.task), number(r.value), r.unit, certainty_text(r), quality_text(r), familiar_text(r))
        for r in sorted(readings, key=lambda r: r.task)
    ]


def shortReadingRows(readings: Iterable[Reading]) -> list[tuple[str, ...]]:
    """One row a reading for the panel, sorted by task."""
    return [
        (taskName(r.task), value_text(r), certainty_text(r), "yes" if r.in_distribution else "NO", quality_text(r))
        for r in sorted(readings, key=lambda r: r.task)
    ]


def offTarget(effects: Iterable[Effect], readings: Iterable[Reading]) -> str:
    """What an edit changed that was not asked for, in a sentence; empty if nothing did."""
    errors = {reading.task: threshold(reading) for reading in readings}
    changed = [e for e in effects if verdict(e, errors.get(e.task)) == VERDICTS[1]]
    words = [f"{taskName(e.task).lower()} ({drift_text(e) or f'{e.before} to {e.after}'})" for e in changed]
    return f"Not asked for, but changed too: {', '.join(sorted(words))}." if words else ""


def effectRows(effects: Iterable[Effect], readings: Iterable[Reading] = ()) -> list[tuple[str, ...]]:
    """One row an effect; what was asked for first, then what changed beside it by more than its threshold."""
    errors = {reading.task: threshold(reading) for reading in readings}
    judged = [(effect, errors.get(effect.task), verdict(effect, errors.get(effect.task))) for effect in effects]
    ranked = sorted(judged, key=lambda row: (VERDICTS.index(row[2]), row[0].task))
    return [
        (taskName(e.task), words, number(e.before), number(e.after), drift_text(e),
         "" if limit is None else number(limit), e.unit)
        for e, limit, words in ranked
    ]


VERDICTS = ("asked for", "off target", "within the probe's error", "unchanged")


def threshold(reading: Reading) -> float | None:
    """The probe's own mean absolute error: a smaller change says nothing. None for a class, or if it is unknown."""
    error = reading.quality.get("mae")
    return float(error) if isinstance(error, (int, float)) and not isinstance(reading.value, str) else None


def verdict(effect: Effect, limit: float | None) -> str:
    """One of :data:`VERDICTS`. A class that changed is off target, whatever its probability was."""
    if effect.asked:
        return VERDICTS[0]
    if effect.before == effect.after:
        return VERDICTS[3]
    if isinstance(effect.before, str) or isinstance(effect.after, str) or limit is None:
        return VERDICTS[1]
    return VERDICTS[1] if abs(effect.after - effect.before) > limit else VERDICTS[2]


def tsv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Tab-separated text with a header."""
    return "".join("\t".join(str(cell) for cell in row) + "\n" for row in [columns, *rows])


def addTable(run: Run, role: str, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], **options: bool):
    """A table node; columns of numbers only become number columns."""
    node = run.add("vtkMRMLTableNode", name)
    node.SetUseColumnTitleAsColumnHeader(True)
    for index, title in enumerate(columns):
        node.AddColumn(_column(title, [row[index] for row in rows]))
    return run.keep(role, node, options.get("synthetic", True))


def _column(title: str, values: Sequence[Any]):
    isNumber = bool(values) and all(isinstance(v, (int, float)) for v in values)
    column = vtk.vtkDoubleArray() if isNumber else vtk.vtkStringArray()
    column.SetName(title)
    for value in values:
        column.InsertNextValue(float(value) if isNumber else str(value))
    return column


def addProbabilities(run: Run, readings: Iterable[Reading]):
    """A table and a bar chart of the classes that the probes weigh. Returns the chart; None if no probe weighs any."""
    rows = probabilityRows(readings)
    if not rows:
        return None
    columns = ("Class", "Probability (%)")
    table = addTable(run, "probabilities", run.name("probabilities", False), columns, rows, synthetic=False)
    series = run.add("vtkMRMLPlotSeriesNode", run.name("probability", False))
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetLabelColumnName(columns[0])
    series.SetYColumnName(columns[1])
    series.SetColor(0.48, 0.12, 0.16)
    chart = run.add("vtkMRMLPlotChartNode", run.name("probabilities chart", False))
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle("What the probes read from the scan")
    chart.SetYAxisTitle(columns[1])
    chart.SetLegendVisibility(False)
    return run.keep("chart-probabilities", chart, synthetic=False)


def probabilityRows(readings: Iterable[Reading]) -> list[tuple[str, float]]:
    """``Disease: AD`` and its probability in percent, the likeliest class of each probe first."""
    return [
        (f"{taskName(r.task)}: {name}", round(100.0 * share, 1))
        for r in sorted(readings, key=lambda r: r.task)
        for name, share in sorted((r.probabilities or {}).items(), key=lambda item: -item[1])
    ]


def trajectoryRows(trajectory: dict[str, Any], task: str) -> list[tuple[float, float, float, float]]:
    """Years, value, low, high of one probe, the baseline at zero first. Empty if the probe gives no number."""
    base = trajectory.get("baseline", {}).get(task, {}).get("value")
    if not isinstance(base, (int, float)):
        return []
    rows = [(0.0, float(base), float(base), float(base))]
    for point in trajectory.get("horizons", []):
        reading = point["readings"].get(task, {})
        if isinstance(reading.get("value"), (int, float)):
            value = float(reading["value"])
            low, high = reading.get("interval") or (value, value)
            rows.append((float(point["horizon_years"]), value, float(low), float(high)))
    return sorted(rows)


def numberTasks(trajectory: dict[str, Any]) -> list[tuple[str, str]]:
    """The probes of a trajectory that give numbers, with their units."""
    baseline = trajectory.get("baseline", {})
    return [(t, v.get("unit", "")) for t, v in baseline.items() if isinstance(v.get("value"), (int, float))]


def addTrajectory(run: Run, trajectory: dict[str, Any], task: str, unit: str):
    """A table and a chart of one probe over the years, with the interval over the samples. Returns the chart."""
    title = f"{taskName(task)} ({unit})" if unit else taskName(task)
    columns = ("Years", title, "5 %", "95 %")
    table = addTable(run, f"trajectory-{task}", run.name(f"{taskName(task)} over years"), columns,
                     trajectoryRows(trajectory, task))  # fmt: skip
    chart = run.add("vtkMRMLPlotChartNode", run.name(f"{taskName(task)} chart"))
    for index, column in enumerate(columns[1:]):
        chart.AddAndObservePlotSeriesNodeID(_series(run, table, column, isMean=index == 0).GetID())
    chart.SetTitle(f"{taskName(task)}, forecast (SYNTHETIC)")
    chart.SetXAxisTitle("Years from the scan")
    chart.SetYAxisTitle(title)
    chart.SetLegendVisibility(True)
    return run.keep(f"chart-{task}", chart, synthetic=True)


def _series(run: Run, table, column: str, isMean: bool):
    series = run.add("vtkMRMLPlotSeriesNode", column)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("Years")
    series.SetYColumnName(column)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetColor(*((0.55, 0.11, 0.16) if isMean else (0.45, 0.45, 0.45)))
    series.SetLineWidth(3 if isMean else 1)
    series.SetMarkerStyle(
        slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle if isMean else slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
    )
    return series
