"""A folder of scans to forecasts and tables, without a window.

    Slicer --no-splash --no-main-window --python-script forecasts.py FOLDER OUT [--years "1, 2, 5"] [--python PYTHON]
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import batch  # noqa: E402


def main(arguments):
    """Forecast every scan of the folder. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--years", default="1, 2, 5")
    parser.add_argument("--samples", type=int, default=8)
    batch.addOptions(parser)
    options = parser.parse_args(arguments)
    scans = sorted(p for p in options.folder.iterdir() if p.name.endswith((".nii", ".nii.gz", ".nrrd")))
    changes = {"horizons": options.years, "samples": options.samples}
    runs = [SimpleNamespace(scan=scan, kind="forecast", changes=changes) for scan in scans]
    return batch.doAll(batch.makeLogic(options), runs, options)


if __name__ == "__main__":
    batch.leave(main(sys.argv[1:]))
