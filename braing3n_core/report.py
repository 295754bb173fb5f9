"""``report.html``: what a set of runs on one scan found, in pictures, from the files that they wrote.

The page holds its pictures itself, so that it can be moved; they also lie as PNG in ``pictures/``.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from . import __version__
from .atomic import atomic_file
from .pictures import Canvas, Curve, Row, colour_limit, curves, montage
from .progress import Progress, silent
from .schema import Effect, Output, Reading, Result
from .volume import Volume
from .wording import certainty_text, drift_text, familiar_text, number, quality_text, value_text


@dataclass(frozen=True)
class Figure:
    """A picture of the report. path: PNG; caption: one sentence."""

    path: Path
    caption: str


class Report:
    """Pictures and page for runs on one scan. scan: the input file; results: by verb, each at most once.

    The results must hold ``preprocess``, whose brain mask frames the pictures. Pictures are in the input's own grid.
    """

    def __init__(self, scan: Path, modality: str, results: Sequence[Result], notes: Sequence[str] = ()) -> None:
        self.scan = Volume.load(scan, modality=modality)
        self.results = {r.kind: r for r in results}
        self.notes = tuple(notes)

    def write(self, folder: Path, progress: Progress = silent) -> Path:
        """Write ``pictures/*.png`` and ``report.html`` into ``folder``; the page's path."""
        sections = []
        makers = (
            self._input, self._probes, self._reconstruction, self._counterfactual, self._forecast, self._provenance,
        )
        for i, make in enumerate(makers):
            progress(i / len(makers), "Pictures")
            sections.append(make(folder / "pictures"))
        page = _page(self.scan.name, "\n".join(s for s in sections if s), self.notes)
        path = folder / "report.html"
        with atomic_file(path) as handle:
            handle.write(page.encode())
        progress(1.0, "Report written")
        return path

    @cached_property
    def _mask(self) -> Volume:
        return self._load(self._outputs("preprocess", "mask")[0])

    @cached_property
    def _canvas(self) -> Canvas:
        return Canvas.of(self.scan, self._mask)

    def _input(self, folder: Path) -> str:
        record = self.results["preprocess"].provenance.get("preprocess", {})
        rows = [Row("Input and brain mask", self.scan, outline=self._mask)]
        figure = Figure(
            montage(folder / "input.png", self._canvas, rows),
            "The scan in its own space; green: the brain that was found.",
        )
        return _section("Input and preprocessing", _figure(figure), _details("Every step", record))

    def _probes(self, folder: Path) -> str:
        result = self.results.get("probe")
        if result is None:
            return ""
        strange = any(not r.in_distribution for r in result.readings)
        warning = '<p class="warn">This scan does not resemble the training data: do not trust these readings.</p>'
        return _section("What the probes read", warning if strange else "", _readings(result.readings))

    def _reconstruction(self, folder: Path) -> str:
        result = self.results.get("reconstruct")
        if result is None:
            return ""
        volume = self._load(self._outputs("reconstruct", "reconstruction")[0])
        rows = [Row("Input", self.scan), Row("Reconstruction", volume, synthetic=True)]
        quality = result.provenance.get("quality", {})
        caption = "What 1200 tokens keep of the scan. Inside the brain: " + ", ".join(
            f"{name.replace('_', ' ')} {value:.3g}" for name, value in quality.items()
        ) + "."
        figure = Figure(montage(folder / "reconstruction.png", self._canvas, rows), caption)
        return _section("Reconstruction", _figure(figure))

    def _counterfactual(self, folder: Path) -> str:
        result = self.results.get("counterfactual")
        if result is None:
            return ""
        edited = self._load(self._outputs("counterfactual", "counterfactual")[0])
        change = self._load(self._outputs("counterfactual", "difference")[0])
        asked = {k: v for k, v in result.provenance["request"]["target"].items() if v is not None}
        title = ", ".join(f"{k} = {v}" for k, v in asked.items()) or "null edit"
        limit = colour_limit(self._canvas, [change])
        rows = [
            Row("Input", self.scan), Row(title, edited, synthetic=True),
            Row("Difference", self.scan, synthetic=True, change=change, limit=limit),
        ]
        figure = Figure(
            montage(folder / "counterfactual.png", self._canvas, rows),
            f"The same brain under {title}. Difference: red is brighter, blue darker than the input.",
        )
        return _section("Counterfactual", _figure(figure), _effects(result.effects), _notes(result.warnings))

    def _forecast(self, folder: Path) -> str:
        result = self.results.get("forecast")
        if result is None:
            return ""
        changes = self._outputs("forecast", "difference")
        maps = [self._load(output) for output in changes]
        limit = colour_limit(self._canvas, maps)
        rows = [Row("Now", self.scan)]
        for output, change in zip(changes, maps, strict=True):
            title = f"{output.horizon_years:+g} years, difference"
            rows.append(Row(title, self.scan, synthetic=True, change=change, limit=limit))
        furthest = max(self._outputs("forecast", "forecast"), key=lambda o: abs(o.horizon_years or 0))
        rows.append(Row(f"{furthest.horizon_years:+g} years", self._load(furthest), synthetic=True))
        figures = [Figure(
            montage(folder / "forecast.png", self._canvas, rows),
            "Mean forecast at each horizon minus the scan, all in one colour scale, then the furthest forecast itself.",
        ), *self._uncertainty(folder), *self._trajectory(folder)]
        return _section("Forecast", *(_figure(f) for f in figures), _notes(result.warnings))

    def _uncertainty(self, folder: Path) -> Iterator[Figure]:
        for output in self._outputs("forecast", "uncertainty")[:1]:
            spread = self._load(output)
            limit = colour_limit(self._canvas, [spread])
            title = f"{output.horizon_years:+g} years, spread"
            row = Row(title, self.scan, synthetic=True, change=spread, limit=limit, one_sided=True)
            yield Figure(
                montage(folder / "uncertainty.png", self._canvas, [row]),
                "How far the forecasts of the ensemble differ from each other (standard deviation).",
            )

    def _trajectory(self, folder: Path) -> Iterator[Figure]:
        for output in self._outputs("forecast", "trajectory", space=None):
            found = trajectory_curves(json.loads(Path(output.path).read_text(encoding="utf-8")))
            if found:
                yield Figure(curves(folder / "trajectory.png", found), "What the probes read along the forecast.")

    def _provenance(self, folder: Path) -> str:
        last = next(reversed(self.results.values()))
        facts = {k: last.provenance.get(k) for k in ("software", "input", "checkpoint", "runtime", "seed")}
        seconds = {kind: r.provenance.get("seconds") for kind, r in self.results.items()}
        details = _details("Software, input, checkpoint, device", facts)
        return _section("Provenance", details, _details("Seconds", seconds))

    def _outputs(self, kind: str, role: str, space: str | None = "native") -> list[Output]:
        return [o for o in self.results[kind].outputs if o.role == role and o.space == space]

    def _load(self, output: Output) -> Volume:
        return Volume.load(output.path, modality=self.scan.modality, allow_constant=True)


def trajectory_curves(table: dict[str, Any]) -> list[Curve]:
    """The numeric readings of a ``forecast.json`` as curves that start at the scan."""
    found = []
    for task, now in table["baseline"].items():
        if isinstance(now["value"], str):
            continue
        points = [(0.0, now["value"], now["value"], now["value"])]
        for row in table["horizons"]:
            reading = row["readings"][task]
            low, high = reading["interval"] or (reading["value"], reading["value"])
            points.append((row["horizon_years"], reading["value"], low, high))
        x, y, low_line, high_line = zip(*sorted(set(points)), strict=True)
        found.append(Curve(task.replace("_", " "), now["unit"], x, y, low_line, high_line))
    return found


def _page(name: str, body: str, notes: Sequence[str]) -> str:
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>BrainG3N: {html.escape(name)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head><body>\n'
        f"<header><h1>BrainG3N <span>{html.escape(name)}</span></h1>\n"
        '<p class="warn">SYNTHETIC images are made by a model, not acquired. Research software, not for clinical use. '
        "The default model is a demonstration trained on digital phantoms, not on patients.</p>\n"
        f"{_notes(notes)}</header>\n<main>\n{body}\n</main>\n<footer>BrainG3N {__version__}</footer></body></html>\n"
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>\n" + "\n".join(p for p in parts if p) + "\n</section>"


def _figure(figure: Figure) -> str:
    data = base64.b64encode(figure.path.read_bytes()).decode()
    caption = html.escape(figure.caption)
    image = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _readings(readings: Sequence[Reading]) -> str:
    rows = [
        (r.task.replace("_", " "), value_text(r), certainty_text(r), quality_text(r), familiar_text(r))
        for r in readings
    ]
    return _table(("variable", "reading", "how sure", "quality of the probe", "resembles training data"), rows)


def _effects(effects: Sequence[Effect]) -> str:
    rows = [
        (e.task.replace("_", " "), number(e.before, e.unit), number(e.after, e.unit), drift_text(e),
         "yes" if e.asked else "")
        for e in effects
    ]
    return _table(("variable", "read before", "read after", "change", "asked to change"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _details(title: str, data: Any) -> str:
    text = html.escape(json.dumps(data, indent=2, ensure_ascii=False, default=str))
    return f"<details><summary>{html.escape(title)}</summary><pre>{text}</pre></details>"


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
