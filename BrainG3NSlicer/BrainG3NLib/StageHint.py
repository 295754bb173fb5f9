"""The line under the stage: how far the scan looks prepared already, and why, before anything is done to it.

The worker looks, in a thread: one of this computer as soon as a scan is chosen, a remote one only when it is asked to.
"""

from __future__ import annotations

from typing import Any

from braing3n_core.errors import BrainG3NError
from braing3n_core.progress import silent

from .Choices import nameOf
from .ComputePanel import ComputePanel
from .Jobs import Runner
from .Logic import Logic
from .Worker import LOCAL


class StageHint:
    """ui: the named widgets. logic: copies the scan. compute: where the model runs."""

    def __init__(self, ui: Any, logic: Logic, compute: ComputePanel) -> None:
        self.ui, self.logic, self.compute = ui, logic, compute
        self.runner = Runner()
        self.timer: Any = None
        self._scan = ""
        self._wanted = False
        self.say("")

    @property
    def busy(self) -> bool:
        """Whether there is something to ask, or an answer is awaited."""
        return self._wanted or self.runner.busy

    @property
    def possible(self) -> bool:
        """Whether the worker has answered, and knows how to look."""
        verbs = (self.compute.capabilities or {}).get("verbs", {})
        return bool(verbs.get("examine", {}).get("available"))

    def chosen(self, node: Any) -> None:
        """A scan was chosen, perhaps the same: :meth:`poll` looks at it, when all have heard of it."""
        if node is None or node.GetID() != self._scan:
            self.forget()
        self._wanted = node is not None
        if self._wanted:
            self.timer.start()

    def look(self, parameters: Any) -> None:
        """Ask the worker what the scan shows."""
        self.forget()
        try:
            job = self.logic.prepare("examine", parameters)
        except BrainG3NError as error:
            self.say(str(error))
            return
        if not self.compute.mayUpload():
            job.discard()
            self.say("Nothing was sent: sending scans to this worker was not confirmed.")
            return
        compute, self._scan = self.compute.compute(), job.inputID
        self.say("Looking at the scan ...")
        self.runner.start(lambda _: job.run(compute.engine(), silent), job.cancel)
        self.timer.start()

    def poll(self, parameters: Any) -> None:
        """Look at a scan that was chosen, if it stays on this computer; hear of the thread."""
        node = parameters.inputVolume if self._wanted and parameters is not None else None
        self._wanted = False
        isLocal = self.compute.settings().location == LOCAL
        if node is not None and node.GetID() != self._scan and isLocal and self.possible:
            self.look(parameters)
        for event in self.runner.poll():
            if event.kind == "done":
                self.say(sentence(event.value.tables["stage"]))
            elif event.kind == "failed":
                self.say(event.message)

    def forget(self) -> None:
        """What was said holds no longer."""
        self.runner.abandon()
        self._scan, self._wanted = "", False
        self.say("")

    def close(self) -> None:
        """Cancel, and give the thread a moment to remove its copy of the scan."""
        self.forget()
        self.runner.abandon(1.0)

    def say(self, text: str) -> None:
        """One line under the stage; none when there is nothing to say."""
        self.ui.stageLabel.text = text
        self.ui.stageLabel.visible = bool(text)


def sentence(found: dict[str, Any]) -> str:
    """The suggestion with its evidence. found: what the worker wrote as ``stage.json``."""
    return f"Looks like: {nameOf(found['evidence']['suggested'])}. {found['in_words']}."
