"""Scan cohorts into one validated manifest.

    python -m training.manifest BIDS_DIR... -o manifest.tsv
    python -m training.manifest ixi=/data/IXI mycard.yaml=/data/mine /data/some_bids -o manifest.tsv

A folder alone is a BIDS data set; NAME=FOLDER is a cohort that has a card in training/cohorts, or a card of your own.
What is missing and what contradicts is printed and stands in full in MANIFEST.findings.tsv; a label that contradicts
itself is left empty.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from braing3n_core.errors import BrainG3NError

from .cards import Card, bids_card, load_card
from .check import Finding, check, coverage, summary
from .scan import label_of, scan
from .split import SplitOptions
from .table import ManifestError, Row, refuse_both_sides, write_manifest, write_rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status: 1 for an error, 2 with ``--strict`` when something contradicts."""
    options = _parser().parse_args(arguments)
    try:
        findings = build(options)
    except BrainG3NError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return 1
    return 2 if options.strict and any(f.kind == "contradicts" for f in findings) else 0


def build(options: argparse.Namespace) -> list[Finding]:
    """Scan, check, write and print."""
    split = SplitOptions(tuple(options.split), options.salt)
    rows: list[Row] = []
    findings: list[Finding] = []
    for card, folder in _distinct([named_source(source) for source in options.sources]):
        found = scan(folder, card, split)
        rows += found.rows
        findings += found.findings
    rows, more = check(rows, files=not options.quick)
    findings += more
    refuse_both_sides(rows)
    write_manifest(options.out, rows)
    listing = options.out.with_suffix(".findings.tsv")
    write_rows(listing, ("kind", "topic", "cohort", "where", "said"),
               ([f.kind, f.topic, f.cohort, f.where, f.said] for f in findings))
    print(f"{coverage(rows)}\n\n{summary(findings)}\n\n{len(rows)} scans in {options.out}, all findings in {listing}")
    return findings


def named_source(text: str) -> tuple[Card, Path]:
    """``NAME=FOLDER``, ``CARD.yaml=FOLDER`` or ``FOLDER`` as a card and a folder."""
    name, separator, folder = text.partition("=")
    if separator and not Path(text).is_dir():
        return load_card(name), Path(folder)
    place = Path(text)
    return bids_card(label_of(place.resolve().name)), place


def _distinct(sources: Sequence[tuple[Card, Path]]) -> Sequence[tuple[Card, Path]]:
    """The sources, when no two folders have one name: people with equal ids would become one person."""
    folders: dict[str, Path] = {}
    for card, folder in sources:
        other = folders.setdefault(card.name, folder)
        if other != folder:
            raise ManifestError(
                "manifest.one_name", f"{other} and {folder} would both be the cohort {card.name}.",
                "Rename a folder, or give each a card with a name of its own: CARD.yaml=FOLDER.",
            )
    return sources


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.manifest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", help="FOLDER (BIDS), COHORT=FOLDER or CARD.yaml=FOLDER")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the manifest (.tsv)")
    parser.add_argument("--split", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--salt", default=SplitOptions().salt, help="another salt is another split")
    parser.add_argument("--quick", action="store_true", help="do not open the files")
    parser.add_argument("--strict", action="store_true", help="exit with 2 when something contradicts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
