"""The card of a trained checkpoint: what it learnt from, as the records of its volumes say."""

from __future__ import annotations

from collections.abc import Sequence

from .store import Record

_PHANTOMS = (
    "**Trained on digital phantoms (synthetic anatomy): a demonstration, not for clinical use.**\n\n"
    "{made}. Phantoms are moving templates (ICBM152 as nilearn carries it and, where\n"
    "they were given, stripped T1 scans, for the embedded default `small` CC0 ones of OpenNeuro ds002748) under known\n"
    "effects of age, sex, disease, tumour, site and contrast; see `training/phantom`. Nothing here was learnt from\n"
    "patients' labels, and nothing it says is a claim about patients.\n"
)
_SCANS = (
    "**Trained on the scans of {cohorts}: research software, not for clinical use.**\n\n"
    "{made}. Whether what was learnt from these scans may be passed on is for the owners of the data to say.\n"
)


def card(title: str, records: Sequence[Record]) -> str:
    """The text of ``card.md``. records: of the volumes that it was trained on; phantoms know their truth."""
    people = len({record["subject"] for record in records})
    made = f"{title} of BrainG3N, made by `training/` from {len(records)} volumes of {people} subjects"
    if all(record.get("truth") for record in records):
        return _PHANTOMS.format(made=made)
    cohorts = sorted({str(record.get("cohort") or "an unnamed cohort") for record in records})
    return _SCANS.format(made=made, cohorts=", ".join(cohorts))
