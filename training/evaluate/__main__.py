"""Every table of the paper, and what it lacks, in one report.

    python -m training.evaluate all --checkpoint small --store HELD_OUT -o report/
    python -m training.evaluate all --store HELD_OUT -o report/ --only longitudinal
    python -m training.evaluate all --manifest COHORTS.tsv -o report/
    python -m training.evaluate real --data FOLDER -o real/
    python -m training.evaluate scan SCAN.nii.gz -o scan/

Writes report.html (one file, pictures inside), report.md, tables/*.tsv and pictures/*.png. A table that is finished
for this checkpoint, data and settings is not computed again. --quick makes every table in a minute: a trial of the
machinery, its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from braing3n_core.errors import BrainG3NError, RequestError
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.schema import GenerateRequest, nearest

from ..latents import LatentSet
from ..manifest.split import SPLITS
from ..store import Store
from .features import TorchScriptFeatures
from .page import write_report
from .public_encoders import KINDS, PublicEncoder
from .readers import require_others
from .reconstructors import open_reconstructor
from .scans import RealScans
from .study import QUICK, Settings, Study
from .table import Table, load_table, save_table
from .tables import TABLES
from .tables.longitudinal import bridge_of

NUMBERS = {
    "scans": "first scans of the store to use", "samples": "generated brains an arm (64)",
    "steps": f"of the sampler ({GenerateRequest.num_steps})",
    "fidelity": "scans of a contrast in the fidelity table (100)",
    "pairs": "pairs of visits (100)", "volumes": "reconstructed volumes (60)", "edits": "edited scans a row (24)",
    "cnn_epochs": "of the small CNN (30)", "bridge_steps": "of the bridge (100)", "seed": "of all noise (0)",
}
"""Settings that the command line can change."""
SWITCHES = ("guide_numbers", "exact_guidance")
"""Settings of the same names that are on or off."""
LABEL = "held-out digital phantoms (synthetic anatomy, training.phantom)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "real":
            from .real import run

            path = run(options.data, options.out, options.checkpoint, options.device, options.quick)
        elif options.command == "scan":
            from .one_scan import run as run_scan

            path = run_scan(options.scan, options.out, options.checkpoint, options.device)
        else:
            path = run_all(study_of(options), tuple(options.only or TABLES), _command(options))
    except BrainG3NError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return 1
    print(path)
    return 0


def run_all(study: Study, names: Sequence[str], command: str) -> Path:
    """Compute the named tables that are not finished, and write the report of all that are."""
    for name in names:
        if name not in TABLES:
            raise RequestError(
                "evaluate.table", f"There is no table {name!r}.",
                f"{nearest(name, list(TABLES))}Tables: {', '.join(TABLES)}.",
            )
    if "longitudinal" in names:
        bridge_of(study)  # a bridge that does not fit is refused now, not after an hour of other tables
    for number, name in enumerate(names):
        if load_table(study.out, name, study.fingerprint_of(name)) is not None:
            print(f"[{number + 1}/{len(names)}] {name}: finished before", file=sys.stderr, flush=True)
            continue
        print(f"[{number + 1}/{len(names)}] {name}", file=sys.stderr, flush=True)
        begin = time.monotonic()
        save_table(study.out, TABLES[name](study), study.fingerprint_of(name))
        print(f"  done after {(time.monotonic() - begin) / 60:.1f} min", file=sys.stderr, flush=True)
        _report(study, command)
    return _report(study, command)


def study_of(options: argparse.Namespace) -> Study:
    """The study of a command line. Raises BrainG3NError for what the caller can mend."""
    settings = QUICK if options.quick else Settings()
    given = {k: v for k in NUMBERS if (v := getattr(options, k)) is not None}
    given |= {name: getattr(options, name) for name in SWITCHES}
    store, label = _scans(options)
    device = options.device
    inference = Inference(Parts(options.checkpoint, device))
    return Study(
        store, options.label or label, inference, options.out,
        replace(settings, **given), _training(options.train_latents),
        tuple(TorchScriptFeatures(path) for path in options.features),
        None if options.bridge is None else Inference(Parts(options.bridge, device)),
        tuple(PublicEncoder(*_named(text), device=device) for text in options.encoders),
        tuple(open_reconstructor(folder, device) for folder in options.reconstructors),
        _judges(options, inference, store),
    )


def _scans(options: argparse.Namespace) -> tuple[Store | RealScans, str]:
    """The held-out scans and what they are. Raises BrainG3NError when there are none."""
    if options.manifest is not None:
        from .cohort import of_manifest

        return of_manifest(options.manifest, options.split, options.store, options.out / "store")
    if not options.store:
        raise RequestError("evaluate.store", "No scans to evaluate on.", "Give --store or --manifest.")
    store = Store.open(*options.store)
    if not len(store):
        raise RequestError("evaluate.store", f"The store {options.store[0]} is empty.", "Build it again.")
    return store, LABEL


def _named(text: str) -> tuple[str, Path]:
    kind, separator, path = text.partition("=")
    if not separator:
        raise RequestError(
            "evaluate.encoder", f"{text!r} names no file.", "Give KIND=FILE, such as brainiac=BrainIAC.ckpt.",
        )
    return kind.lower(), Path(path)


def _training(folders: Sequence[Path]) -> tuple[np.ndarray, np.ndarray] | None:
    """T1 latents (n,F) that the generator learnt from, and their subjects."""
    if not folders:
        return None
    data = LatentSet.open(folders)
    rows = data.where(modality="T1")
    return data.latents.numpy()[rows].reshape(len(rows), -1), np.array([data.records[i]["subject"] for i in rows])


def _judges(options: argparse.Namespace, inference: Inference, store: Store | RealScans) -> LatentSet | None:
    """What held-out probes are fitted on beside the evaluated scans. Raises BrainG3NError for what does not fit."""
    if not options.reader_latents:
        return None
    others = LatentSet.open(options.reader_latents, inference.parts.checkpoint("tokenizer").id)
    require_others(others, store.records)
    return others


def _report(study: Study, command: str) -> Path:
    tables = [t for t in (load_table(study.out, name, study.fingerprint_of(name)) for name in TABLES) if t is not None]
    return write_report(study.out, "BrainG3N: evaluation", _facts(study, command), _numbered(tables))


def _facts(study: Study, command: str) -> dict[str, str]:
    subjects = len(set(study.subjects))
    return {
        "checkpoint": f"{study.inference.parts.folder.name}: "
        + ", ".join(f"{k} {v}" for k, v in study.ids.items()),
        "data": f"{study.label}: {len(study.records)} scans of {subjects} subjects, none of them used in training",
        "computed by": command,
    }


def _numbered(tables: Sequence[Table]) -> list[Table]:
    return [replace(t, title=f"{i + 1}. {t.title}") for i, t in enumerate(tables)]


def _command(options: argparse.Namespace) -> str:
    """The command again, with folders by their names alone: a report does not know the machine it was made on."""
    def named(option: str, paths: Sequence[Path]) -> list[str]:
        return [f"--{option} {' '.join(p.name for p in paths)}"] if paths else []

    words = ["python -m training.evaluate all", f"--checkpoint {Path(options.checkpoint).name}",
             *named("manifest", [options.manifest] if options.manifest else []), *named("store", options.store),
             *named("train-latents", options.train_latents), *named("reader-latents", options.reader_latents),
             *named("features", options.features),
             *named("bridge", [options.bridge] if options.bridge else []),
             *named("reconstructors", options.reconstructors)]
    words += [f"--encoders {' '.join(f'{k}={p.name}' for k, p in map(_named, options.encoders))}"] \
        if options.encoders else []
    words += [f"--{k.replace('_', '-')} {v}" for k in NUMBERS if (v := getattr(options, k)) is not None]
    words += [f"--{name.replace('_', '-')}" for name in (*SWITCHES, "quick") if getattr(options, name)]
    return " ".join(words)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    every = commands.add_parser("all", help="the tables of the paper on a held-out store")
    every.add_argument("--store", type=Path, default=[], nargs="+", metavar="STORE",
                       help="held-out store (training.build_store, training.prepare); several are used as one")
    every.add_argument("--manifest", type=Path, metavar="TSV",
                       help="cohort manifest (training.manifest): its --split alone is used, from --store, or "
                            "preprocessed into OUT/store")
    every.add_argument("--split", default="test", choices=SPLITS, help="side of the manifest (default: test)")
    every.add_argument("--only", nargs="+", metavar="TABLE", help=f"these alone: {', '.join(TABLES)}")
    every.add_argument("--label", help="what the scans are, in words, for every table")
    every.add_argument("--train-latents", type=Path, nargs="+", default=[], metavar="SET",
                       help="latent sets that the generator learnt from, for the memorisation audit")
    every.add_argument("--reader-latents", type=Path, nargs="+", default=[], metavar="SET",
                       help="latent sets of further people whom nothing was learnt from: held-out probes are fitted on "
                            "them where they carry the label (default: on the evaluated scans)")
    every.add_argument("--features", type=Path, nargs="+", default=[], metavar="FILE",
                       help="TorchScript networks of 2D images, as further features of the fidelity table")
    every.add_argument("--bridge", type=Path, metavar="RUN",
                       help="folder with a forecaster of the preset bridge, beside the checkpoint's own")
    every.add_argument("--encoders", nargs="+", default=[], metavar="KIND=FILE",
                       help=f"weights of published encoders that you have: {', '.join(KINDS)}")
    every.add_argument("--reconstructors", type=Path, nargs="+", default=[], metavar="FOLDER",
                       help="further tokenizers (with their encoder) or AutoencoderKL, as rows of the bottleneck table")
    every.add_argument("--guide-numbers", action="store_true", help="guidance amplifies the age too, as in the paper")
    every.add_argument("--exact-guidance", action="store_true",
                       help="what guidance adds is asked for at every evaluation, as in the paper")
    for name, what in NUMBERS.items():
        every.add_argument(f"--{name.replace('_', '-')}", type=int, help=what)
    real = commands.add_parser("real", help="what needs no training label, on real scans")
    real.add_argument("--data", type=Path, required=True, help="folder of real MRI (CONTRIBUTING.md, Tests)")
    one = commands.add_parser("scan", help="edits and forecasts of one scan: identity, growth, place, seams")
    one.add_argument("scan", type=Path, help="a T1, NIfTI or NRRD")
    for command in (every, real, one):
        command.add_argument("--checkpoint", default="small", help="checkpoint set (default: the embedded one)")
        command.add_argument("-o", "--out", type=Path, required=True, help="folder of the report")
        command.add_argument("--device", default="auto")
        command.add_argument("--quick", action="store_true", help="every table whole, no number worth reading")
    return top


if __name__ == "__main__":
    sys.exit(main())
