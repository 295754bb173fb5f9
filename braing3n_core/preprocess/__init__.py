"""From the scanner's own space onto the atlas grid, and exactly back (paper, section 2)."""

from __future__ import annotations

from .intensity import Normalisation, from_model, to_model
from .pipeline import Preprocessed, preprocess, to_native
from .record import PreprocessRecord, Step

__all__ = [
    "Normalisation", "PreprocessRecord", "Preprocessed", "Step", "from_model", "preprocess", "to_model", "to_native",
]
