"""Where everything of a store lies, by the names of BIDS derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from braing3n_core import __version__
from braing3n_core.outputs import ImageName, write_json
from braing3n_core.schema import BIDS_SUFFIX

from ..manifest.table import Row


@dataclass(frozen=True)
class Place:
    """The files of one row in a store. folder: ``COHORT/sub-X/ses-Y/anat``."""

    store: Path
    row: Row

    @property
    def folder(self) -> Path:
        return self.store / self.row.cohort / f"sub-{self.row.subject}" / f"ses-{self.row.session}" / "anat"

    @property
    def stem(self) -> str:
        run = "" if self.row.run == "1" else f"_run-{self.row.run}"
        return f"sub-{self.row.subject}_ses-{self.row.session}{run}"

    def image(self, desc: str, suffix: str | None = None) -> Path:
        """An image on the SRI24 grid, e.g. ``..._space-SRI24_desc-preproc_T1w.nii.gz``."""
        name = ImageName(self.stem, "SRI24", desc, suffix or BIDS_SUFFIX[self.row.modality])
        return self.folder / f"{name}.nii.gz"

    def sidecar(self, desc: str = "preproc") -> Path:
        image = self.image(desc)
        return image.with_name(image.name.replace(".nii.gz", ".json"))

    def mask(self) -> Path:
        """The brain mask; every contrast has its own file, of one brain."""
        return self.image(f"brain{self.row.modality}", "mask")

    def voxels(self) -> Path:
        """The volume on the model grid for training (160,192,160), half precision."""
        image = self.image("model")
        return image.with_name(image.name.replace(".nii.gz", ".npy"))

    def outcome(self) -> Path:
        """What became of the row; written last."""
        return self.folder / f"{self.stem}_{BIDS_SUFFIX[self.row.modality]}_outcome.json"


def describe(store: Path, cohort: str) -> None:
    """The ``dataset_description.json`` of a cohort in the store, once."""
    path = store / cohort / "dataset_description.json"
    if not path.is_file():
        write_json(path, {
            "Name": f"{cohort}, preprocessed by BrainG3N", "BIDSVersion": "1.9.0", "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "BrainG3N training.prepare", "Version": __version__}],
        })
