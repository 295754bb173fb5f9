"""The panels: buttons start a run, a timer shows how it goes and then the result. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import qt
import slicer

from braing3n_core.errors import BrainG3NError
from braing3n_core.progress import Cancel

from . import Choices, Settings, Tables, Views
from .Jobs import Event, Job, Runner, TimeLeft
from .Logic import Logic, tableText
from .Worker import LOCAL, REMOTE, Compute, ComputeSettings, summary

PUMP_MS = 100
APPLY = {
    "preprocessButton": ("preprocess", "Preprocess"), "probeButton": ("probe", "Encode and read"),
    "counterfactualButton": ("counterfactual", "Make the counterfactual"), "forecastButton": ("forecast", "Forecast"),
}  # fmt: skip


class Panels:
    """The state machine behind the ``.ui``: idle, running, showing. ui: the named widgets. logic: see Logic."""

    def __init__(self, ui: Any, logic: Logic) -> None:
        self.ui, self.logic = ui, logic
        self.parameters: Any = None
        self.capabilities: dict[str, Any] | None = None
        self.runner, self.prober = Runner(), Runner()
        self.job: Job | None = None
        self.run: Any = None
        self._showing: Iterator[Any] | None = None
        self._timeLeft: TimeLeft | None = None
        self.timer = qt.QTimer()
        self.timer.interval = PUMP_MS
        self.timer.connect("timeout()", self.pump)
        self._connect()
        self._showSettings(Settings.load())

    def setParameters(self, parameters: Any) -> None:
        """Show another parameter node's values; None while there is no scene."""
        self.parameters = parameters
        if parameters is not None:
            Choices.fill(self.ui, parameters, self.capabilities)
        self._refresh()

    def settings(self) -> ComputeSettings:
        """The Compute panel's choice."""
        ui = self.ui
        location = REMOTE if ui.locationBox.currentIndex == 1 else LOCAL
        return ComputeSettings(
            location, ui.pythonPath.currentPath.strip(), ui.checkpointPath.currentPath.strip(), "auto",
            ui.urlEdit.text.strip(), ui.tokenEdit.text, ui.fingerprintEdit.text.strip(),
        )  # fmt: skip

    def probe(self) -> None:
        """Ask the engine what it can do, without waiting for the answer."""
        if self.prober.busy:
            return
        compute = self._compute()
        self.ui.computeStatus.text = "Asking the worker ..."
        self.prober.start(lambda _: compute.engine().capabilities(), Cancel())
        self.timer.start()

    def apply(self, kind: str) -> None:
        """Start a run, or cancel the one under way."""
        if self.isRunning():
            self.cancel()
            return
        try:
            self.job = self.logic.prepare(kind, self.parameters)
            if not self._mayUpload():
                self.say("Nothing was sent: sending scans to this worker was not confirmed.")
                return
            compute, job = self._compute(), self.job
            self.runner.start(lambda progress: job.run(compute.engine(), progress), job.cancel)
        except BrainG3NError as error:
            self.say(str(error), isError=True)
            return
        self._timeLeft = TimeLeft()
        self.say("Starting ...")
        self._refresh()
        self.timer.start()

    def cancel(self) -> None:
        """Stop the run; its nodes, if some exist already, go away."""
        self.runner.cancel()
        if self._showing is not None:
            self._showing.close()
            self._finish("Cancelled. Nothing was changed.")
        else:
            self.say("Cancelling ...")

    def isRunning(self) -> bool:
        """Whether a run computes or its nodes are being made."""
        return self.runner.busy or self._showing is not None

    def pump(self) -> None:
        """Hear of the threads and do one small step on the scene; a timer calls this."""
        for event in self.prober.poll():
            self._heard(event)
        for event in self.runner.poll():
            self._happened(event)
        if self._showing is not None:
            self._showOneStep()
        if not self.isRunning() and not self.prober.busy:
            self.timer.stop()

    def sceneCloses(self) -> None:
        """Forget the run: its nodes vanish with the scene."""
        self.runner.abandon()
        if self._showing is not None:
            self._showing.close()
        self.run = None
        self._finish("")

    def close(self) -> None:
        """End everything that was started."""
        self.timer.stop()
        self.runner.abandon(2.0)
        self.prober.abandon()
        if self._showing is not None:
            self._showing.close()
            self._showing = None
        if self.logic.compute is not None:
            self.logic.compute.stop()

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
        ui.locationBox.connect("currentIndexChanged(int)", lambda _: self._locationChanged())
        ui.testButton.connect("clicked(bool)", lambda _=False: self._testConnection())
        ui.copyButton.connect("clicked(bool)", lambda _=False: self._copy())
        ui.compareButton.connect("clicked(bool)", lambda _=False: self._compare())
        ui.opacitySlider.connect("valueChanged(double)", lambda v: Views.setOpacity(self.logic.scene, v))
        ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda _: self._refresh())

    def _choose(self, box: str) -> None:
        if self.parameters is not None:
            Choices.store(self.ui, self.parameters, box)

    def _locationChanged(self) -> None:
        isRemote = self.ui.locationBox.currentIndex == 1
        self.ui.localFrame.visible = not isRemote
        self.ui.remoteFrame.visible = isRemote
        self._forgetCompute()

    def _testConnection(self) -> None:
        Settings.save(self.settings())
        self._forgetCompute()
        self.probe()

    def _forgetCompute(self) -> None:
        if self.logic.compute is not None and not self.runner.busy:
            self.logic.compute.stop()
            self.logic.compute = None

    def _compute(self) -> Compute:
        settings = self.settings()
        if self.logic.compute is None or self.logic.compute.settings != settings:
            self._forgetCompute()
            self.logic.compute = Compute(settings, dict(slicer.util.startupEnvironment()))
        return self.logic.compute

    def _mayUpload(self) -> bool:
        settings = self.settings()
        if settings.location != REMOTE or Settings.isConfirmed(settings.url):
            return True
        text = f"The scan will be sent to {settings.url}. It may show who the person is. Send scans to this worker?"
        if not slicer.util.confirmYesNoDisplay(text, "BrainG3N"):
            return False
        Settings.confirm(settings.url)
        return True

    def _showSettings(self, settings: ComputeSettings) -> None:
        self.ui.locationBox.currentIndex = 1 if settings.location == REMOTE else 0
        self.ui.pythonPath.currentPath = settings.python
        self.ui.checkpointPath.currentPath = settings.checkpoint
        self.ui.urlEdit.text = settings.url
        self.ui.fingerprintEdit.text = settings.fingerprint
        self._locationChanged()

    def _heard(self, event: Event) -> None:
        if event.kind == "done":
            self.capabilities = event.value
            self.ui.computeStatus.text = summary(event.value)
            if self.parameters is not None:
                Choices.fill(self.ui, self.parameters, event.value)
        elif event.kind == "failed":
            self.ui.computeStatus.text = event.message

    def _happened(self, event: Event) -> None:
        if event.kind == "progress":
            self.ui.progressBar.value = round(100 * event.fraction)
            left = self._timeLeft.text(event.fraction) if self._timeLeft else ""
            self.say(", ".join(part for part in (event.message, left) if part))
        elif event.kind == "done" and self.job is not None:
            self.say("Showing the result ...")
            self._showing = self.logic.accept(self.job, event.value)
        elif event.kind == "failed":
            self._finish(event.message, isError=True)
        else:
            self._finish("Cancelled. Nothing was changed.")

    def _showOneStep(self) -> None:
        try:
            self.run = next(self._showing)  # type: ignore[arg-type]
        except StopIteration:
            self._show(self.run)
        except BrainG3NError as error:
            self._finish(str(error), isError=True)

    def _show(self, run: Any) -> None:
        result = run.result
        if result.readings:
            _fillTable(self.ui.readingsTable, Tables.READING_COLUMNS, Tables.readingRows(result.readings))
        if result.effects:
            _fillTable(self.ui.effectsTable, Tables.EFFECT_COLUMNS, Tables.effectRows(result.effects))
        self._compare()
        self._finish("\n".join(["Done.", *result.warnings]))

    def _compare(self) -> None:
        if self.run is not None and self.parameters is not None:
            Views.sideBySide(self.logic.scene)
            Views.compare(self.run, self.parameters.opacity)

    def _copy(self) -> None:
        node = self.run.named.get("readings") if self.run is not None else None
        if node is None:
            self.say("There are no readings yet. Press 'Encode and read' first.")
            return
        qt.QApplication.clipboard().setText(tableText(node))
        self.say("The readings were copied as tab-separated text.")

    def _finish(self, text: str, isError: bool = False) -> None:
        self._showing, self.job = None, None
        self.say(text, isError)
        self._refresh()

    def _refresh(self) -> None:
        running, kind = self.isRunning(), self.job.kind if self.job is not None else None
        for button, (verb, text) in APPLY.items():
            widget = getattr(self.ui, button)
            widget.text = "Cancel" if running and verb == kind else text
            widget.enabled = self.parameters is not None and (not running or verb == kind)
        self.ui.progressBar.visible = running
        if not running:
            self.ui.progressBar.value = 0


def _fillTable(widget: Any, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widget.setColumnCount(len(columns))
    widget.setHorizontalHeaderLabels(list(columns))
    widget.setRowCount(len(rows))
    for r, row in enumerate(rows):
        for c, text in enumerate(row):
            widget.setItem(r, c, qt.QTableWidgetItem(text))
    widget.resizeColumnsToContents()
    widget.resizeRowsToContents()
