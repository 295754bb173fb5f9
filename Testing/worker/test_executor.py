"""The executor between two jobs: it works ahead, and an order that comes meanwhile waits for one piece at most."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from braing3n_core.errors import CheckpointError
from braing3n_core.schema import GenerateRequest, Result, request_to_dict
from braing3n_core.worker.executor import Executor, Wire
from braing3n_core.worker.rehearsal import Rehearsal

from .conftest import wait_for


class Foresighted(Rehearsal):
    """A rehearsal with pieces to make ahead: the first fails, the second lasts until an order is there."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []
        self.busy, self.ordered = threading.Event(), threading.Event()

    def ahead(self) -> Iterator[Callable[[], object]]:
        yield self._broken
        yield self._slow
        yield lambda: self.made.append("third")

    def _broken(self) -> None:
        self.made.append("broken")
        raise CheckpointError("checkpoint.part", "A part is missing.", "Fetch it.")

    def _slow(self) -> None:
        self.made.append("slow")
        self.busy.set()
        assert self.ordered.wait(20)

    def run(self, *arguments: Any, **options: Any) -> Result:
        self.made.append("job")
        return super().run(*arguments, **options)


class Orders:
    """An order as the worker sends it, when the executor is in the middle of a piece."""

    def __init__(self, engine: Foresighted, folder: Path) -> None:
        self.engine, self.folder = engine, folder

    def __iter__(self) -> Iterator[str]:
        assert self.engine.busy.wait(20)
        request = request_to_dict(GenerateRequest(num_steps=1))
        yield json.dumps({"run": "job", "folder": str(self.folder), "format": "auto", "request": request})
        self.engine.ordered.set()
        threading.Event().wait()  # the input stays open: its end would end this process


class Heard:
    """What the executor says, until it has said that a job is done."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.done = threading.Event()

    def write(self, line: str) -> None:
        self.events.append(json.loads(line))
        if self.events[-1]["event"] in ("done", "failed"):
            self.done.set()

    def flush(self) -> None:
        pass


def test_an_order_is_done_after_the_piece_in_hand_and_a_broken_piece_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, folder = tmp_path / "home", tmp_path / "job"
    home.mkdir()
    folder.mkdir()
    monkeypatch.chdir(home)
    heard, engine = Heard(), Foresighted()
    executor = Executor(engine, Wire(heard), forget_seconds=60)  # type: ignore[arg-type]
    threading.Thread(target=executor.listen, args=(Orders(engine, folder),), daemon=True).start()
    threading.Thread(target=executor.work, daemon=True).start()
    assert heard.done.wait(60)
    assert heard.events[-1]["event"] == "done"
    assert engine.made[:3] == ["broken", "slow", "job"]
    wait_for(lambda: Path.cwd() == home, 20)  # and not in the job's folder, which will be erased
