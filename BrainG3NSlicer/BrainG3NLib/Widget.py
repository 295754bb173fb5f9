"""The panels: buttons start a run, a timer shows how it goes and then the result. Nothing is computed here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qt
import slicer

from braing3n_core.errors import BrainG3NError

from . import Choices, Tables, Views
from .ComputePanel import ComputePanel
from .Jobs import Answer, Event, Job, Runner, TimeLeft, progressInto
from .Logic import Logic, qualityRows, tableText
from .Requests import suggestModality
from .StageHint import StageHint
from .Stamp import Stamp

PUMP_MS = 100
STEPS_SECONDS = 0.02
"""Steps on the scene go on for so long in one turn of the timer; the longest alone takes about 40 ms."""
APPLY = {
    "preprocessButton": ("preprocess", "Preprocess"), "probeButton": ("probe", "Encode and read"),
    "counterfactualButton": ("counterfactual", "Make the counterfactual"), "forecastButton": ("forecast", "Forecast"),
}  # fmt: skip


class Panels:
    """The state machine behind the ``.ui``: idle, running, showing. ui: the named widgets. logic: see Logic."""

    def __init__(self, ui: Any, logic: Logic) -> None:
        self.ui, self.logic = ui, logic
        self.parameters: Any = None
        self.runner = Runner()
        self.job: Job | None = None
        self.run: Any = None
        self.coarse: Any = None
        self._showing: Iterator[Any] | None = None
        self._sketching: Iterator[Any] | None = None
        self._timeLeft: TimeLeft | None = None
        self._tips = {button: getattr(ui, button).toolTip for button in APPLY}
        self.stamp = Stamp(logic.scene, slicer.app.layoutManager())
        self.compute = ComputePanel(ui, logic, self._offer)
        self.hint = StageHint(ui, logic, self.compute)
        self.timer = self.compute.timer = self.hint.timer = qt.QTimer()
        self.timer.interval = PUMP_MS
        self.timer.connect("timeout()", self.pump)
        self._connect()

    def setParameters(self, parameters: Any) -> None:
        """Show another parameter node's values; None while there is no scene."""
        self.parameters = parameters
        if parameters is not None:
            Choices.fill(self.ui, parameters, self.compute.capabilities)
            self.stamp.follow()
        self._refresh()

    def probe(self) -> None:
        """Ask the engine what it can do, without waiting for the answer; the panel was opened."""
        self.stamp.follow()
        self.compute.probe()

    def apply(self, kind: str) -> None:
        """Start a run, or cancel the one under way."""
        if self.isRunning():
            self.cancel()
            return
        try:
            self.job = self.logic.prepare(kind, self.parameters)
            if not self.compute.mayUpload():
                self.job.discard()
                self._finish("Nothing was sent: sending scans to this worker was not confirmed.")
                return
            self._start(self.job)
        except BrainG3NError as error:
            self._finish(str(error), isError=True)
            return
        self._timeLeft = TimeLeft()
        self.say("Starting ...")
        self._refresh()
        self.timer.start()

    def _start(self, job: Job) -> None:
        compute = self.compute.compute()
        self.runner.start(
            lambda tell: job.run(
                compute.engine(), progressInto(tell), lambda answer: tell(Event("preview", value=answer))
            ),
            job.cancel,
        )

    def cancel(self) -> None:
        """Stop the run; its nodes, if some exist already, go away."""
        self.runner.cancel()
        if self._showing is not None:
            self._finish("Cancelled. Nothing was changed.")
        else:
            self.say("Cancelling ...")

    def isRunning(self) -> bool:
        """Whether a run computes or its nodes are being made."""
        return self.runner.busy or self._showing is not None

    def pump(self) -> None:
        """Hear of the threads and do a few small steps on the scene; a timer calls this."""
        self.compute.poll()
        self.hint.poll(self.parameters)
        for event in self.runner.poll():
            self._happened(event)
        until = time.monotonic() + STEPS_SECONDS
        while self._step() and time.monotonic() < until:
            pass
        if not (self.isRunning() or self.compute.busy or self.hint.busy):
            self.timer.stop()

    def sceneCloses(self) -> None:
        """Forget the run: its nodes vanish with the scene."""
        self.runner.abandon()
        self.hint.forget()
        self._finish("")
        self.stamp.letGo()
        self.run = None

    def close(self) -> None:
        """End everything that was started."""
        self.timer.stop()
        self.runner.abandon(2.0)
        self.hint.close()
        self._dropUnfinished()
        self.stamp.letGo()
        self.compute.close()

    def say(self, text: str, isError: bool = False) -> None:
        """One sentence under the panels."""
        self.ui.messageLabel.text = text
        self.ui.messageLabel.styleSheet = "color: #b3261e;" if isError else ""

    def _connect(self) -> None:
        ui = self.ui
        for button, (kind, _) in APPLY.items():
            getattr(ui, button).connect("clicked(bool)", lambda _=False, k=kind: self.apply(k))
        for box in Choices.BOXES:
            getattr(ui, box).connect("currentIndexChanged(int)", lambda _, b=box: self._choose(b))
        ui.stageButton.connect("clicked(bool)", lambda _=False: self.hint.look(self.parameters))
        ui.copyButton.connect("clicked(bool)", lambda _=False: self._copy())
        ui.exportButton.connect("clicked(bool)", lambda _=False: self._export())
        ui.compareButton.connect("clicked(bool)", lambda _=False: self._compare())
        ui.opacitySlider.connect("valueChanged(double)", lambda v: Views.setOpacity(self.logic.scene, v))
        ui.targetAgeSlider.connect("valueChanged(double)", lambda _: self._fit())
        ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._inputChosen)

    def _inputChosen(self, node: Any) -> None:
        """Suggest the modality that the scan's name tells."""
        word = suggestModality(node.GetName()) if node is not None else None
        if word is not None and self.parameters is not None and word != self.parameters.modality:
            self.parameters.modality = word
            Choices.show(self.ui, self.parameters)
            self.say(f"Modality {word}, as the name of the volume suggests. Choose another if that is wrong.")
        self.hint.chosen(node)
        self._refresh()

    def _choose(self, box: str) -> None:
        if self.parameters is not None:
            Choices.store(self.ui, self.parameters, box)
            self._fit()

    def _fit(self) -> None:
        """Let only those fields be changed that count."""
        if self.parameters is not None:
            Choices.fit(self.ui, self.parameters, self.compute.capabilities)

    def _offer(self, capabilities: dict[str, Any]) -> None:
        if self.parameters is not None:
            Choices.fill(self.ui, self.parameters, capabilities)
            self.hint.chosen(self.parameters.inputVolume)
        self._refresh()

    def _happened(self, event: Event) -> None:
        if event.kind == "progress":
            self.ui.progressBar.value = round(100 * event.fraction)
            left = self._timeLeft.text(event.fraction) if self._timeLeft else ""
            self.say(", ".join(part for part in (event.message, left) if part))
        elif event.kind == "preview" and self.job is not None:
            self._sketching = self.logic.accept(self.job, event.value)
        elif event.kind == "done" and self.job is not None:
            self._accept(event.value)
        elif event.kind == "failed":
            self._finish(event.message, isError=True)
        else:
            self._finish("Cancelled. Nothing was changed.")

    def _accept(self, answer: Answer) -> None:
        """The full answer came: the coarse one makes room for it."""
        self._dropSketch()
        self.say("Showing the result ...")
        self._showing = self.logic.accept(self.job, answer)  # type: ignore[arg-type]

    def _step(self) -> bool:
        """One small step on the scene; whether there was one to do."""
        if self._showing is not None:
            self._showOneStep()
        elif self._sketching is not None:
            self._sketchOneStep()
        else:
            return False
        return True

    def _showOneStep(self) -> None:
        try:
            self.run = next(self._showing)  # type: ignore[arg-type]
        except StopIteration:
            self._showing = None
            self._show(self.run)
        except BrainG3NError as error:
            self._finish(str(error), isError=True)

    def _sketchOneStep(self) -> None:
        try:
            self.coarse = next(self._sketching)  # type: ignore[arg-type]
        except StopIteration:
            self._sketching = None
            self._look(self.coarse)
            self.say("A coarse answer is shown; the full one is being made ...")

    def _show(self, run: Any) -> None:
        result = run.result
        if result.readings:
            rows, tips = Tables.shortReadingRows(result.readings), Tables.readingTips(result.readings)
            _fillTable(self.ui.readingsTable, Tables.SHORT_READING_COLUMNS, rows, tips)
        if result.effects:
            rows = Tables.effectRows(result.effects, result.readings)
            _fillTable(self.ui.effectsTable, Tables.SHORT_EFFECT_COLUMNS, rows)
        if result.kind == "preprocess":
            _fillTable(self.ui.qualityTable, Tables.QUALITY_COLUMNS, qualityRows(result))
        self._compare()
        changed = Tables.offTarget(result.effects, result.readings)
        self._finish("\n".join(line for line in ("Done.", changed, *result.warnings) if line))

    def _compare(self) -> None:
        if self.run is None:
            self.say("There is no result yet. Make a counterfactual or a forecast first.")
            return
        self._look(self.run)

    def _look(self, run: Any) -> None:
        if self.parameters is not None and ("counterfactual" in run.named or "forecast" in run.named):
            Views.sideBySide(self.logic.scene, Views.chartOf(run))
            Views.compare(run, self.parameters.opacity)
            self.stamp.follow()

    def _readings(self) -> Any:
        node = self.run.named.get("readings") if self.run is not None else None
        if node is None:
            self.say("There are no readings yet. Press 'Encode and read' first.")
        return node

    def _copy(self) -> None:
        node = self._readings()
        if node is not None:
            qt.QApplication.clipboard().setText(tableText(node))
            self.say("The readings were copied as tab-separated text.")

    def _export(self) -> None:
        node = self._readings()
        if node is None:
            return
        path = qt.QFileDialog.getSaveFileName(None, "Save the readings", "readings.tsv", "Text (*.tsv)")
        if not path:
            return
        try:
            Path(path).write_text(tableText(node), encoding="utf-8")
        except OSError as error:
            self.say(f"{path} cannot be written: {error.strerror}. Choose another folder.", isError=True)
            return
        self.say(f"The readings were saved to {path}.")

    def _dropSketch(self) -> None:
        """Take the coarse answer away."""
        if self._sketching is not None:
            self._sketching.close()  # type: ignore[attr-defined]
        elif self.coarse is not None:
            self.coarse.rollBack()
        self._sketching = self.coarse = None

    def _dropUnfinished(self) -> None:
        if self._showing is not None:
            self._showing.close()  # type: ignore[attr-defined]
        self._dropSketch()
        self._showing = None

    def _finish(self, text: str, isError: bool = False) -> None:
        self._dropUnfinished()
        self.job = None
        self.say(text, isError)
        self._refresh()

    def _refresh(self) -> None:
        running, kind = self.isRunning(), self.job.kind if self.job is not None else None
        missing = Choices.missing(self.compute.capabilities)
        for button, (verb, text) in APPLY.items():
            widget = getattr(self.ui, button)
            widget.text = "Cancel" if running and verb == kind else text
            mayStart = not running and verb not in missing
            widget.enabled = self.parameters is not None and (mayStart or (running and verb == kind))
            widget.toolTip = f"Not possible: {missing[verb]}." if verb in missing else self._tips[button]
        for widget in (self.ui.locationBox, self.ui.testButton, self.ui.installButton):
            widget.enabled = not running  # a run under way keeps its worker
        self.ui.stageButton.enabled = self.parameters is not None and self.hint.possible
        self.ui.progressBar.visible = running
        if not running:
            self.ui.progressBar.value = 0


Rows = list[tuple[str, ...]]


def _fillTable(widget: Any, columns: tuple[str, ...], rows: Rows, tips: Rows | None = None) -> None:
    """Show the leading columns of some rows; the last takes the space that is left. tips: the cells in full."""
    widget.setColumnCount(len(columns))
    widget.setHorizontalHeaderLabels(list(columns))
    widget.setRowCount(len(rows))
    for r, row in enumerate(rows):
        for c, text in enumerate(row[: len(columns)]):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(tips[r][c] if tips else text)  # a narrow panel cuts long words
            widget.setItem(r, c, item)
    widget.resizeColumnsToContents()
    widget.horizontalHeader().setSectionResizeMode(len(columns) - 1, qt.QHeaderView.Stretch)
    widget.resizeRowsToContents()
