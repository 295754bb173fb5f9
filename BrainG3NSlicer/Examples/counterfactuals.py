"""One scan under every disease that the checkpoint knows, without a window.

    Slicer --no-splash --no-main-window --python-script counterfactuals.py SCAN OUT [--python PYTHON]
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import batch  # noqa: E402


def main(arguments):
    """Edit the scan once a disease. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("out", type=Path)
    batch.addOptions(parser)
    options = parser.parse_args(arguments)
    logic = batch.makeLogic(options)
    known = logic.compute.engine().capabilities()["vocabularies"]["dit"].get("disease") or []
    runs = [SimpleNamespace(scan=options.scan, kind="counterfactual", changes={"targetDisease": d}) for d in known]
    return batch.doAll(logic, runs, options)


if __name__ == "__main__":
    batch.leave(main(sys.argv[1:]))
