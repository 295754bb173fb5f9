"""The labels of the paper's 23 tasks: their columns in a manifest, what is allowed in each, and how words are read.

A cell that cannot be read becomes missing and is reported; nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from braing3n_core.schema import CDR_VALUES, DISEASES, IDH1, MODALITIES, SEXES, nearest

Value = str | float | None
MISSING = "n/a"
DIAGNOSES: tuple[str, ...] = (*DISEASES, "ADHD", "paediatric-mixed", "other")
"""Every diagnosis of the paper's corpus; the first eight are the condition ``disease``."""

CLASSIFICATION: dict[str, str] = {
    "disease": "disease", "sex": "sex", "modality": "modality", "site": "site", "field_strength": "field_strength_t",
    "handedness": "handedness", "ethnicity": "ethnicity", "apoe_e4": "apoe_e4", "apoe_genotype": "apoe_genotype",
    "race": "race", "vendor": "vendor", "idh1": "idh1", "mgmt": "mgmt", "grade": "grade", "cdr_stage": "cdr",
}
REGRESSION: dict[str, str] = {
    "age": "age_years", "mmse": "mmse", "cdr": "cdr", "moca": "moca", "education": "education_years", "gds": "gds",
    "updrs3": "updrs3", "scopa": "scopa",
}
TASKS: dict[str, str] = {**CLASSIFICATION, **REGRESSION}
"""The 23 tasks of the paper and the column that holds each one's label (CDR serves two)."""

RANGES: dict[str, tuple[float, float]] = {
    "age_years": (0, 120), "field_strength_t": (0.05, 15), "mmse": (0, 30), "moca": (0, 30), "education_years": (0, 40),
    "gds": (0, 15), "updrs3": (0, 132), "scopa": (0, 69),
}
"""Numbers: the smallest and the largest that the scale has."""
CHOICES: dict[str, tuple[str, ...]] = {
    "sex": SEXES, "diagnosis": DIAGNOSES, "disease": DISEASES, "idh1": IDH1, "mgmt": ("unmethylated", "methylated"),
    "grade": ("2", "3", "4"), "apoe_e4": ("carrier", "non-carrier"),
    "apoe_genotype": ("2/2", "2/3", "2/4", "3/3", "3/4", "4/4"), "handedness": ("right", "left", "both"),
    "vendor": ("Siemens", "GE", "Philips", "other"), "modality": MODALITIES,
}
FREE: tuple[str, ...] = ("site", "ethnicity", "race")
COLUMNS: tuple[str, ...] = tuple(dict.fromkeys(("age_years", "sex", "diagnosis", *TASKS.values())))
"""The label columns of a manifest, ``site`` and ``modality`` included."""
NUMBERS: tuple[str, ...] = (*RANGES, "cdr")

_NOTHING = frozenset({"", "n/a", "na", "nan", "none", "null", "unknown", "not available", "missing", "."})
_WORDS: dict[str, dict[str, str]] = {
    "sex": {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"},
    "diagnosis": {
        **{word: "HC" for word in ("control", "controls", "healthy", "healthy control", "cn", "nc", "normal",
                                   "cognitively normal", "contr")},
        "mild cognitive impairment": "MCI", "emci": "MCI", "lmci": "MCI", "alzheimer's disease": "AD",
        "alzheimer": "AD", "parkinson's disease": "PD", "parkinson": "PD", "glioblastoma": "GBM",
        "astrocytoma": "glioma", "oligodendroglioma": "glioma", "autism": "ASD", "autism spectrum disorder": "ASD",
        "schizophrenia": "SCZ",
    },
    "idh1": {"wt": "wildtype", "wild type": "wildtype", "wild-type": "wildtype", "mutated": "mutant"},
    "grade": {"ii": "2", "iii": "3", "iv": "4", "2.0": "2", "3.0": "3", "4.0": "4"},
    "handedness": {"r": "right", "l": "left", "ambidextrous": "both", "a": "both"},
    "vendor": {"siemens healthineers": "Siemens", "ge medical systems": "GE", "ge healthcare": "GE",
               "philips medical systems": "Philips", "philips healthcare": "Philips"},
    "apoe_genotype": {pair: f"{pair[0]}/{pair[1]}" for pair in ("22", "23", "24", "33", "34", "44")}
    | {f"e{a}/e{b}": f"{a}/{b}" for a, b in ("22", "23", "24", "33", "34", "44")},
}


@dataclass(frozen=True)
class Cell:
    """One label as it was understood. problem: why it is missing although something was written, else None."""

    value: Value
    problem: str | None = None


def read_label(column: str, raw: object, words: Mapping[str, str] | None = None) -> Cell:
    """A raw cell of a cohort's table as the manifest's value. words: the cohort's own coding, read first."""
    text = "" if raw is None else str(raw).strip()
    coded = {k.lower(): v for k, v in (words or {}).items()}.get(text.lower())
    if coded is not None:
        return Cell(None) if coded == MISSING else _checked(column, str(coded))
    if text.lower() in _NOTHING:
        return Cell(None)
    return _checked(column, text)


def _checked(column: str, text: str) -> Cell:
    if column in NUMBERS:
        return _number(column, text)
    if column in FREE:
        return Cell(text)
    choices = CHOICES[column]
    exact = {choice.lower(): choice for choice in choices}
    found = exact.get(text.lower()) or _WORDS.get(column, {}).get(text.lower())
    if found is None:
        return Cell(None, f"{text!r} is no known {column}. {nearest(text, choices)}Known: {', '.join(choices)}.")
    return Cell(found)


def _number(column: str, text: str) -> Cell:
    try:
        value = float(text)
    except ValueError:
        return Cell(None, f"{text!r} is no number for {column}.")
    if column == "cdr":
        return Cell(value) if value in CDR_VALUES else Cell(None, f"{text} is no CDR; it has {CDR_VALUES}.")
    low, high = RANGES[column]
    if not (math.isfinite(value) and low <= value <= high):
        return Cell(None, f"{text} is outside {low:g} to {high:g} for {column}.")
    return Cell(value)


def derived(labels: Mapping[str, Value]) -> dict[str, Value]:
    """Labels that follow from others: the 8-way disease from the diagnosis, APOE e4 from the genotype."""
    done = dict(labels)
    if done.get("disease") is None and done.get("diagnosis") in DISEASES:
        done["disease"] = done["diagnosis"]
    genotype = done.get("apoe_genotype")
    if done.get("apoe_e4") is None and genotype is not None:
        done["apoe_e4"] = "carrier" if "4" in str(genotype) else "non-carrier"
    return done
