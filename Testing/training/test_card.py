"""A checkpoint's card says what it learnt from: phantoms are told from scans of a cohort."""

from __future__ import annotations

from braing3n_core.checkpoint import DISCLAIMER
from training.card import card

PHANTOM = {"subject": "sub-01", "truth": {"gm_ml": 700.0}}
SCAN = {"subject": "ixi:1", "cohort": "ixi"}


def first_line(*records: dict[str, object]) -> str:
    line = card("The encoder", records).splitlines()[0]
    assert DISCLAIMER in line, "else no checkpoint is written"
    return line


def test_phantoms_are_named_on_the_first_line() -> None:
    assert "digital phantoms" in first_line(PHANTOM, PHANTOM)
    assert "from 2 volumes of 1 subjects" in card("The encoder", [PHANTOM, PHANTOM])


def test_scans_are_never_called_phantoms() -> None:
    assert "the scans of ixi, oasis-1:" in first_line({"subject": "o:2", "cohort": "oasis-1"}, SCAN, SCAN)
    for records in ([SCAN], [PHANTOM, SCAN], [{"subject": "1", "truth": None}]):
        assert "phantom" not in card("The encoder", records).lower()
    assert "an unnamed cohort" in first_line({"subject": "1"})
