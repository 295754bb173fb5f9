"""A cohort's card: a small YAML file that says where participants, sessions, labels, sites and images are.

A card's ``images`` are regular expressions over paths relative to the cohort's folder, with the named groups
``subject`` and, where there are, ``session``, ``run``, ``modality``, ``site``. Its ``tables`` name a CSV or TSV file
and, by manifest column, the cohort's own column (or a list of spellings, the first that is there counts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from braing3n_core.schema import MODALITIES, STAGES, nearest

from .labels import COLUMNS
from .table import ManifestError

CARDS = Path(__file__).resolve().parents[1] / "cohorts"


@dataclass(frozen=True)
class Images:
    """Files of one kind. pattern: over relative paths. modality, stage, run: where the path does not tell them."""

    pattern: re.Pattern[str]
    modality: str | None = None
    stage: str | None = None
    run: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Labels. file: glob in the cohort's folder. subject, session: columns of the ids; ``{file}`` is the first part of
    the file's own name. id_pattern: a regular expression with ``subject`` and perhaps ``session`` for cells that hold
    more. subject_format: makes the images' id of the cell's. columns: by manifest column, the cohort's. words: by
    manifest column, the cohort's coding. A table without session holds for all sessions."""

    file: str
    subject: str
    session: str | None = None
    id_pattern: str | None = None
    subject_format: str = "{}"
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """One cohort. people: the name space of its subjects' ids, shared by cohorts that share people."""

    name: str
    stage: str
    images: tuple[Images, ...]
    tables: tuple[Table, ...] = ()
    people: str = ""
    modalities: tuple[str, ...] = MODALITIES
    constants: Mapping[str, str] = field(default_factory=dict)
    bids: bool = False
    source: str = ""
    paper: Mapping[str, int] = field(default_factory=dict)
    uncertain: tuple[str, ...] = ()


def card_names() -> list[str]:
    """The cohorts that have a card."""
    return sorted(path.stem for path in CARDS.glob("*.yaml"))


def load_card(wanted: str) -> Card:
    """The card of a cohort by name, or a card's file. Raises :class:`ManifestError` for what it does not understand."""
    import yaml

    path = Path(wanted) if wanted.endswith((".yaml", ".yml")) else CARDS / f"{wanted.lower()}.yaml"
    if not path.is_file():
        names = card_names()
        raise ManifestError(
            "card.missing", f"There is no card for the cohort {wanted!r}.",
            f"{nearest(wanted.lower(), names)}Known: {', '.join(names)}; or give the path of a card.",
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ManifestError("card.yaml", f"{path} is not YAML: {error}.", "Correct the named line.") from error
    return card_from_dict(data, str(path))


def card_from_dict(data: Any, where: str) -> Card:
    """A card from its YAML, strictly: an unknown key names the nearest known one."""
    if not isinstance(data, dict):
        raise ManifestError("card.keys", f"{where} holds no mapping.", "See the cards in training/cohorts.")
    _known(data, Card, where)
    lacking = {"name", "stage"} - set(data)
    if lacking or not (data.get("images") or data.get("bids")):
        raise ManifestError("card.keys", f"{where} must have name, stage, and images or bids.", "Add what is missing.")
    images = [_images(i, where) for i in data.get("images", [])]
    tables = [_table(t, where) for t in data.get("tables", [])]
    if data.get("bids"):
        images, tables = images or [_images(BIDS_IMAGES, where)], tables or list(BIDS_TABLES)
    _words(data["stage"], ("auto", *STAGES), where)
    for modality in data.get("modalities", ()):
        _words(modality, MODALITIES, where)
    for column in data.get("constants", {}):
        _words(column, COLUMNS, where)
    rest = {k: v for k, v in data.items() if k not in ("images", "tables", "modalities", "uncertain")}
    return Card(
        **rest, images=tuple(images), tables=tuple(tables), modalities=tuple(data.get("modalities", MODALITIES)),
        uncertain=tuple(data.get("uncertain", ())),
    )


def _images(data: dict[str, Any], where: str) -> Images:
    _known(data, Images, where)
    try:
        pattern = re.compile(data["pattern"])
    except (KeyError, re.error) as error:
        raise ManifestError("card.pattern", f"{where}: a pattern is wrong: {error}.", "Correct it.") from error
    if "subject" not in pattern.groupindex:
        raise ManifestError(
            "card.pattern", f"{where}: the pattern {pattern.pattern!r} finds no subject.", "Add (?P<subject>...)."
        )
    if data.get("modality") is not None:
        _words(data["modality"], MODALITIES, where)
    return Images(**{**data, "pattern": pattern})


def _table(data: dict[str, Any], where: str) -> Table:
    _known(data, Table, where)
    columns = {}
    for column, names in data.get("columns", {}).items():
        _words(column, COLUMNS, where)
        columns[column] = (names,) if isinstance(names, str) else tuple(names)
    words = {c: {str(k): str(v) for k, v in coding.items()} for c, coding in data.get("words", {}).items()}
    return Table(**{**data, "columns": columns, "words": words})


def _known(data: dict[str, Any], cls: type, where: str) -> None:
    known = [f.name for f in fields(cls)]
    for key in data:
        if key not in known:
            raise ManifestError(
                "card.keys", f"{where}: unknown key {key!r}.", f"{nearest(str(key), known)}Known: {', '.join(known)}."
            )


def _words(word: str, known: tuple[str, ...], where: str) -> None:
    if word not in known:
        raise ManifestError(
            "card.word", f"{where}: unknown word {word!r}.", f"{nearest(str(word), known)}Known: {', '.join(known)}."
        )


BIDS_IMAGES: dict[str, Any] = {
    "pattern": r"sub-(?P<subject>[A-Za-z0-9]+)/(?:ses-(?P<session>[A-Za-z0-9]+)/)?anat/sub-(?P=subject)"
    r"(?:_ses-[A-Za-z0-9]+)?(?P<run>(?:_[a-z]+-[A-Za-z0-9]+)*)_(?P<modality>T1w|T2w|FLAIR)\.nii(?:\.gz)?",
}
"""Images of BIDS. A contrast agent is among what stands between session and suffix (``_ce-GAD``)."""
_USUAL: dict[str, list[str]] = {
    "age_years": ["age_years", "age", "Age", "AGE"], "sex": ["sex", "gender", "Sex", "Gender"],
    "diagnosis": ["diagnosis", "disease", "dx", "group", "Group", "DX"], "site": ["site", "Site", "center", "centre"],
    "handedness": ["handedness", "hand"], "education_years": ["education_years", "education"],
    **{c: [c, c.upper()] for c in ("mmse", "moca", "cdr", "gds", "updrs3", "scopa", "race", "ethnicity", "idh1",
                                   "mgmt", "grade", "apoe_genotype", "apoe_e4", "vendor", "field_strength_t")},
}
BIDS_TABLES: tuple[Table, ...] = (
    _table({"file": "participants.tsv", "subject": "participant_id", "columns": _USUAL}, "BIDS"),
    _table({"file": "sub-*/sub-*_sessions.tsv", "subject": "{file}", "session": "session_id", "columns": _USUAL},
           "BIDS"),
)


def bids_card(name: str) -> Card:
    """The card of any BIDS data set: what participants.tsv, sessions.tsv and the sidecars usually say."""
    return card_from_dict({"name": name, "stage": "auto", "bids": True}, "BIDS")
