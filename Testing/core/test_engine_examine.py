"""What a scan shows of its preprocessing, asked before anything is done to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from braing3n_core.cli import main
from braing3n_core.engine import Engine
from braing3n_core.errors import PreprocessError
from braing3n_core.schema import ExamineRequest, PreprocessOptions


def test_examining_says_the_stage_with_its_evidence_and_does_nothing_to_the_scan(
    registered_scan: Path, tmp_path: Path
) -> None:
    engine = Engine(tmp_path / "nothing")
    result = engine.run(ExamineRequest(str(registered_scan)), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "stage.json").read_text())
    assert found["stage"] == "registered" and found["evidence"]["on_atlas_grid"] and "SRI24 grid" in found["in_words"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"stage.json", "provenance.json"}
    assert result.provenance["examined"] == found and result.provenance["checkpoint"] is None
    with pytest.raises(PreprocessError, match="declared native, but it looks skull-stripped"):
        engine.run(ExamineRequest(str(registered_scan), PreprocessOptions(stage="native")), tmp_path / "no")


def test_the_command_line_says_the_stage_in_a_line(
    registered_scan: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["examine", str(registered_scan), "-o", str(tmp_path / "out"), "--checkpoint", str(tiny_checkpoint)]
    assert main(command) == 0
    assert "stage: registered: " in capsys.readouterr().out
