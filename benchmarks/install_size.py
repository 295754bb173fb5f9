"""How large the local worker's packages are on the disk, PyTorch and what Slicer bundles left out.

    python -m benchmarks.install_size
"""

from __future__ import annotations

import importlib.metadata as metadata
import re
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "BrainG3NSlicer" / "Resources" / "requirements.txt"
NOT_COUNTED = {"torch", "numpy", "requests", "simpleitk", "packaging", "pip", "setuptools"}
"""PyTorch, and what comes with Slicer."""


def closure(names: list[str]) -> set[str]:
    """The packages and all that they need, extras left out."""
    found: set[str] = set()
    while names:
        name = re.split(r"[^\w.-]", names.pop())[0].lower().replace("_", "-")
        if name in found or name in NOT_COUNTED:
            continue
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another system or Python
        found.add(name)
        names += [need for need in needed if "extra ==" not in need]
    return found


def size(name: str) -> int:
    """Bytes of a package's files."""
    files = [Path(str(file.locate())) for file in metadata.files(name) or []]
    return sum(path.stat().st_size for path in files if path.is_file())


def main() -> None:
    """Print the packages, largest first, and the sum."""
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    sizes = sorted(((size(name), name) for name in closure(lines)), reverse=True)
    for amount, name in sizes:
        print(f"{amount / 1e6:8.1f} MB  {name}")
    print(f"{sum(amount for amount, _ in sizes) / 1e6:8.1f} MB  in all")


if __name__ == "__main__":
    main()
