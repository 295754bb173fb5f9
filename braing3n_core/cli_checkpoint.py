"""The verbs of the command line that make something of checkpoints: ``import-encoder`` and ``export-bundle``."""

from __future__ import annotations

import argparse

_NOTE = "Research software, not for clinical use."
_IMPORT = (
    "Reads a .safetensors file whose tensors have names of their authors' choosing. The mapping says which of theirs\n"
    "is which of ours; every mismatch is a sentence, and nothing is guessed. See docs/training.md for its form.\n"
    + _NOTE
)
_EXPORT = (
    "Encoder and tokenizer as a MONAI bundle: python -m monai.bundle run --config_file configs/inference.json ...\n"
    + _NOTE
)


def add_checkpoint_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The two verbs."""
    importer = _verb(verbs, "import-encoder", "Make an encoder checkpoint of released weights", _IMPORT)
    importer.add_argument("file", metavar="FILE.safetensors", help="the released weights")
    importer.add_argument("--mapping", required=True, metavar="MAP.toml", help="which of their tensors is which")
    importer.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the new encoder checkpoint")
    exporter = _verb(verbs, "export-bundle", "Write encoder and tokenizer as a MONAI bundle", _EXPORT)
    exporter.add_argument("out", metavar="DIR", help="folder of the bundle; must be new or empty")
    exporter.add_argument("--checkpoint", default="small", metavar="DIR",
                          help="checkpoint folder (default: the embedded small)")  # fmt: skip


def run_import(options: argparse.Namespace) -> None:
    """``braing3n import-encoder``."""
    from .importing import import_encoder

    _say(options, f"encoder {import_encoder(options.file, options.mapping, options.out).id} in {options.out}")


def run_export(options: argparse.Namespace) -> None:
    """``braing3n export-bundle``."""
    from .exporting import export_bundle

    _say(options, f"bundle in {export_bundle(options.checkpoint, options.out)}")


def _say(options: argparse.Namespace, text: str) -> None:
    import sys

    if not options.quiet:
        sys.stdout.write(f"{text}\n")


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(json=False, quiet=False)
    return parser
