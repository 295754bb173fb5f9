"""The Compute panel: where the model runs, what is installed for it, and what was downloaded. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from braing3n_core.errors import BrainG3NError
from braing3n_core.progress import Cancel

from . import Cache, Install, Settings
from .Jobs import Runner
from .Logic import Logic
from .Worker import LOCAL, REMOTE, Compute, ComputeSettings, summary


class ComputePanel:
    """ui: the named widgets. logic: gets its place to compute. tell(capabilities): called when a worker answered."""

    def __init__(self, ui: Any, logic: Logic, tell: Callable[[dict[str, Any]], None]) -> None:
        self.ui, self.logic, self._tell = ui, logic, tell
        self.capabilities: dict[str, Any] | None = None
        self.prober, self.judge = Runner(), Runner()
        self.timer: Any = None
        self._show(Settings.load())
        ui.locationBox.connect("currentIndexChanged(int)", lambda _: self._locationChanged())
        ui.testButton.connect("clicked(bool)", lambda _=False: self.test())
        ui.installButton.connect("clicked(bool)", lambda _=False: self.check())
        ui.openCacheButton.connect("clicked(bool)", lambda _=False: self.openCache())
        ui.clearCacheButton.connect("clicked(bool)", lambda _=False: self.clearCache())
        self.showCache()

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return self.prober.busy or self.judge.busy

    def settings(self) -> ComputeSettings:
        """What is chosen."""
        ui = self.ui
        location = REMOTE if ui.locationBox.currentIndex == 1 else LOCAL
        return ComputeSettings(
            location, ui.pythonPath.currentPath.strip(), ui.checkpointPath.currentPath.strip(), "auto",
            ui.urlEdit.text.strip(), ui.tokenEdit.text, ui.fingerprintEdit.text.strip(),
        )  # fmt: skip

    def compute(self) -> Compute:
        """The place that the settings name; another one is stopped."""
        settings = self.settings()
        if self.logic.compute is None or self.logic.compute.settings != settings:
            self.forget()
            self.logic.compute = Compute(settings, dict(slicer.util.startupEnvironment()))
        return self.logic.compute

    def probe(self) -> None:
        """Ask the engine what it can do."""
        if self.prober.busy:
            return
        compute = self.compute()
        self.ui.computeStatus.text = "Asking the worker ..."
        self.prober.start(lambda _: compute.engine().capabilities(), Cancel())
        self.timer.start()

    def test(self) -> None:
        """Start afresh with the settings, and keep them."""
        Settings.save(self.settings())
        self.forget()
        self.probe()

    def forget(self) -> None:
        """Stop the place to compute."""
        if self.logic.compute is not None:
            self.logic.compute.stop()
            self.logic.compute = None

    def check(self) -> None:
        """Ask the local Python what it lacks; :meth:`poll` hears the answer. A remote worker needs nothing here."""
        if self.settings().location == REMOTE:
            self.ui.computeStatus.text = "A remote worker needs nothing on this computer. Nothing is installed."
            return
        if self.judge.busy:
            return
        python, environment = self.settings().interpreter(), dict(slicer.util.startupEnvironment())
        self.ui.computeStatus.text = f"Looking at {python} ..."
        self.judge.start(lambda _: Install.judge(python, environment), Cancel())
        self.timer.start()

    def poll(self) -> None:
        """Hear of the threads."""
        for event in self.prober.poll():
            if event.kind == "done":
                self.capabilities = event.value
                self.ui.computeStatus.text = summary(event.value)
                self._tell(event.value)
            elif event.kind == "failed":
                self.ui.computeStatus.text = event.message
        for event in self.judge.poll():
            self.ui.computeStatus.text = self._offer(event.value) if event.kind == "done" else event.message

    def _offer(self, state: Install.State) -> str:
        """Install into Slicer's own Python after a yes. Returns what happened in a sentence."""
        if state.complete or not state.isSlicers:
            return state.text()
        if not slicer.util.confirmYesNoDisplay(Install.question(state), "BrainG3N"):
            return f"{state.text()} Nothing was installed."
        try:
            Install.install(state)
        except BrainG3NError as error:
            return str(error)
        self.forget()
        return "Installed. Press 'Test connection'."

    def mayUpload(self) -> bool:
        """Whether scans may go where the settings point; asked once for each remote worker."""
        settings = self.settings()
        if settings.location != REMOTE or Settings.isConfirmed(settings.url):
            return True
        text = f"The scan will be sent to {settings.url}. It may show who the person is. Send scans to this worker?"
        if not slicer.util.confirmYesNoDisplay(text, "BrainG3N"):
            return False
        Settings.confirm(settings.url)
        return True

    def showCache(self) -> None:
        """Show how much was downloaded."""
        self.ui.cacheLabel.text = f"{Cache.sizeInBytes() / 1e6:.1f} MB"
        self.ui.cacheLabel.toolTip = Cache.text()

    def openCache(self) -> None:
        """Show the folder in the system's own window."""
        if not Cache.folder().is_dir():
            self.ui.computeStatus.text = Cache.text()
            return
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(Cache.folder())))

    def clearCache(self) -> None:
        """Remove the downloads after a yes."""
        if not slicer.util.confirmYesNoDisplay(f"Remove the downloads ({Cache.text()})?", "BrainG3N"):
            return
        try:
            self.ui.computeStatus.text = f"{Cache.clear() / 1e6:.1f} MB were removed."
        except BrainG3NError as error:
            self.ui.computeStatus.text = str(error)
        self.showCache()

    def close(self) -> None:
        """End what was started."""
        self.prober.abandon()
        self.judge.abandon()
        self.forget()

    def _locationChanged(self) -> None:
        isRemote = self.ui.locationBox.currentIndex == 1
        self.ui.localFrame.visible = not isRemote
        self.ui.remoteFrame.visible = isRemote
        self.forget()

    def _show(self, settings: ComputeSettings) -> None:
        self.ui.locationBox.currentIndex = 1 if settings.location == REMOTE else 0
        self.ui.pythonPath.currentPath = settings.python
        self.ui.checkpointPath.currentPath = settings.checkpoint
        self.ui.urlEdit.text = settings.url
        self.ui.fingerprintEdit.text = settings.fingerprint
        self._locationChanged()
