"""What an installation says of itself: all that a form needs, and it costs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from braing3n_core.engine import Engine


def test_describing_an_installation_reads_no_template_and_opens_no_connection(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BRAING3N_MINDGRAB_WEIGHTS", raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("A connection was opened."))
    monkeypatch.setattr("braing3n_core.volume.Volume.from_array", lambda *_, **__: pytest.fail("A volume was made."))
    backends = Engine(tiny_checkpoint).capabilities()["brain_backends"]
    assert not backends["mindgrab"]["available"] and "by name" in backends["mindgrab"]["why"]
    assert backends["template"]["available"] and "ICBM152" in backends["template"]["why"]


def test_capabilities_tell_what_a_form_needs_and_load_no_weights(tiny_checkpoint: Path) -> None:
    engine = Engine(tiny_checkpoint)
    facts = json.loads(json.dumps(engine.capabilities()))
    assert facts["vocabularies"]["dit"]["disease"] == ["HC", "MCI", "AD", "GBM"]
    assert facts["vocabularies"]["forecaster"]["horizon_years"] is None
    assert facts["verbs"]["forecast"]["available"] and facts["device"]["why"]
    assert {p["task"] for p in facts["probes"]} >= {"age", "sex", "disease", "modality"}
    assert facts["brain_backends"]["template"]["why"] and facts["checkpoint"]["licence"] == "Apache-2.0"
    assert not {"encoder", "tokenizer", "dit", "forecaster"} & set(vars(engine.parts))
