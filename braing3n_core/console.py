"""Progress and tables for people (a bar on a terminal, plain lines in a log) and for programs (JSON lines)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from .progress import Progress, silent
from .schema import Effect, Reading, Result
from .wording import certainty_text, drift_text, familiar_text, number, quality_line, quality_numbers, value_text

if TYPE_CHECKING:
    from .cohort import Cohort
    from .demo import Demo


@contextmanager
def progress_sink(style: str, stream: TextIO | None = None) -> Iterator[Progress]:
    """A progress sink that lives as long as the block. style: ``auto`` (bar or lines), ``json`` or ``quiet``."""
    stream = stream or sys.stderr
    if style == "quiet":
        yield silent
    elif style == "json":
        yield JsonLines(stream)
    elif stream.isatty():
        with _bar(stream) as sink:
            yield sink
    else:
        yield PlainLines(stream)


class JsonLines:
    """One JSON object per line: ``{"progress": fraction, "message": text}``."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, fraction: float, message: str) -> None:
        self.stream.write(json.dumps({"progress": round(fraction, 4), "message": message}) + "\n")
        self.stream.flush()


class PlainLines:
    """Lines such as ``[ 42%] 3 s, 5 s left  Registering``: one per step or tenth, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.start = stream, time.monotonic()
        self.said: tuple[str, int] = ("", -1)

    def __call__(self, fraction: float, message: str) -> None:
        step = (message.rstrip("0123456789 of/"), int(fraction * 10))
        if step == self.said:
            return
        self.said = step
        elapsed = time.monotonic() - self.start
        self.stream.write(f"[{fraction:4.0%}] {elapsed:.0f} s{_left(fraction, elapsed)}  {message}\n")
        self.stream.flush()


def _left(fraction: float, elapsed: float) -> str:
    if not 0.02 < fraction < 1:
        return ""
    return f", {elapsed * (1 - fraction) / fraction:.0f} s left"


@contextmanager
def _bar(stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("Starting", total=1.0)

        def sink(fraction: float, message: str) -> None:
            bar.update(task, completed=fraction, description=message)

        yield sink


def show_result(result: Result, stream: TextIO | None = None) -> None:
    """Files, readings, effects and warnings of a result, for a person."""
    from rich.console import Console

    console = Console(file=stream or sys.stdout, soft_wrap=True, highlight=False)
    if result.readings and result.kind == "probe":
        console.print(readings_table(result.readings))
    if result.effects:
        console.print(_effects_table(result.effects))
    if model := result.provenance.get("checkpoint"):
        console.print(f"checkpoint {model['name']}: {model['card']}", markup=False)
    if "examined" in result.provenance:
        found = result.provenance["examined"]
        console.print(f"stage: {found['stage']}: {found['in_words']}", markup=False)
    for warning in result.warnings:
        console.print(f"note: {warning}", markup=False)
    for output in result.outputs:
        word = "SYNTHETIC " if output.synthetic else ""
        console.print(f"wrote {output.path}  ({word}{output.role})", markup=False)


def readings_table(readings: Sequence[Reading]) -> Any:
    """A rich table of probe readings, with interval or probability and the probe's quality."""
    from rich.table import Table

    measured = sorted({str(r.quality["data"]) for r in readings if r.quality.get("data")})
    caption = f"Quality was measured {'; '.join(measured)}." if measured else None
    table = Table(title="What the probes read", title_justify="left", caption=caption, caption_justify="left")
    for column in ("variable", "reading", "how sure", "quality of the probe", "resembles training data"):
        table.add_column(column)
    for reading in readings:
        table.add_row(
            reading.task.replace("_", " "), value_text(reading), certainty_text(reading),
            quality_numbers(reading.quality), familiar_text(reading),
        )
    return table


def _effects_table(effects: Sequence[Effect]) -> Any:
    from rich.table import Table

    table = Table(title="What the probes read before and after the edit", title_justify="left")
    for column in ("variable", "before", "after", "change", "asked for"):
        table.add_column(column)
    for e in effects:
        asked = "yes" if e.asked else ""
        table.add_row(
            e.task.replace("_", " "), number(e.before, e.unit), number(e.after, e.unit), drift_text(e), asked
        )
    return table


def show_capabilities(facts: dict[str, Any], stream: TextIO | None = None) -> None:
    """What the installation can do, for a person."""
    from rich.console import Console

    console = Console(file=stream or sys.stdout, soft_wrap=True, highlight=False)
    checkpoint, device = facts["checkpoint"], facts["device"]
    lines = [
        f"BrainG3N {facts['version']}, checkpoint {checkpoint['name']}: {checkpoint['card']} ({checkpoint['licence']})",
        f"device: {device['name']} ({device['why']})", "verbs:", *_availability(facts["verbs"]),
        "brain extraction:", *_availability(facts["brain_backends"]),
        *(line for part, names in facts["vocabularies"].items() for line in _vocabulary_lines(part, names)),
        "probes:", *(f"  {probe['task']}: {quality_line(probe['quality'])}" for probe in facts["probes"]),
    ]
    for line in lines:
        console.print(line, markup=False)


def _availability(items: dict[str, dict[str, Any]]) -> list[str]:
    return [f"  {name}: {'yes' if item['available'] else 'no'}, {item['why']}" for name, item in items.items()]


def _vocabulary_lines(part: str, names: dict[str, list[str] | None]) -> list[str]:
    verbs = {"dit": "counterfactual and generate", "forecaster": "forecast"}[part]
    return [f"conditions of {verbs}:", *(f"  {n}: {', '.join(w) if w else 'a number'}" for n, w in names.items())]


def show_cohort(cohort: Cohort, stream: TextIO | None = None) -> None:
    """How far a cohort is, and what its privacy report says."""
    from rich.console import Console

    console = Console(file=stream or sys.stdout, soft_wrap=True, highlight=False)
    console.print(f"{cohort.present} of {cohort.planned} SYNTHETIC subjects in {cohort.folder.resolve()} "
                  f"({cohort.made} made now, {cohort.kept} were there)", markup=False)
    privacy = cohort.privacy
    if "suspicious" in privacy:
        console.print(f"{privacy['suspicious']} of {privacy['samples']} lie suspiciously near one person of "
                      f"{privacy['reference_scans']} reference scans", markup=False)
    else:
        console.print(f"note: {privacy['note']}", markup=False)


def show_demo(demo: Demo, stream: TextIO | None = None) -> None:
    """The probes' table of a demonstration, and where to look."""
    from rich.console import Console

    console = Console(file=stream or sys.stdout, soft_wrap=True, highlight=False)
    for note in dict.fromkeys((*demo.notes, *(w for r in demo.results for w in r.warnings))):
        console.print(f"note: {note}", markup=False)
    console.print(readings_table(next(r.readings for r in demo.results if r.kind == "probe")))
    console.print(f"All files are in {demo.report.parent.resolve()}", markup=False)
    console.print(f"Look at {demo.report.resolve()}", markup=False)
