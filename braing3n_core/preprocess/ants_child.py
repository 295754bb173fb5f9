"""One ANTs registration in a process of its own: ``python ants_child.py FOLDER``; started by ``spatial.run_ants``.

Imports nothing of this package, so that the environment that makes ANTs deterministic is set before ITK loads.
FOLDER holds ``job.json`` (geometries of both images in ITK's LPS and ``options`` for ``ants.registration``),
``fixed.npy``, ``moving.npy`` and perhaps ``fixed_mask.npy``, where to measure. The images start where they lie.
It writes ``answer.json``: parameters and centre of the affine, which maps points of fixed to moving.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ants
import numpy as np


def main(folder: Path) -> None:
    """Do the job in the folder."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    fixed = _image(folder, "fixed", job["fixed"])
    moving = _image(folder, "moving", job["moving"])
    options: dict[str, Any] = {"outprefix": str(folder / "found_")}
    if (folder / "fixed_mask.npy").exists():
        options["mask"] = _image(folder, "fixed_mask", job["fixed"])
        options["mask_all_stages"] = True
    found = ants.registration(fixed, moving, initial_transform="Identity", **options, **job["options"])
    transform = ants.read_transform(found["fwdtransforms"][0])
    answer = _affine(transform)
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _affine(transform: Any) -> dict[str, Any]:
    """Twelve parameters and a centre; a rigid transform has others of its own and is asked what it does to points."""
    if len(transform.parameters) == 12:
        return {"parameters": transform.parameters.tolist(), "center": transform.fixed_parameters.tolist()}
    origin = np.array(transform.apply_to_point((0.0, 0.0, 0.0)))
    columns = [np.array(transform.apply_to_point(tuple(e))) - origin for e in np.eye(3)]
    return {"parameters": [*np.stack(columns, axis=1).ravel().tolist(), *origin.tolist()], "center": [0.0, 0.0, 0.0]}


def _image(folder: Path, name: str, geometry: dict[str, Any]) -> Any:
    array = np.load(folder / f"{name}.npy", allow_pickle=False)
    return ants.from_numpy(
        array, origin=geometry["origin"], spacing=geometry["spacing"], direction=np.array(geometry["direction"])
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
