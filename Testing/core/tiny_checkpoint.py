"""A complete checkpoint set with small random weights: every part real, so that the engine runs its whole way on it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braing3n_core.checkpoint import Checkpoint, CheckpointSpec, load_checkpoint, save_checkpoint
from braing3n_core.models.dit import DiT, DiTConfig
from braing3n_core.models.mae import Encoder, EncoderConfig
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig
from braing3n_core.probes import Familiarity, LinearProbe, ProbePanel

CARD = "# Random weights for tests, not for clinical use\n"
DISEASES = ("HC", "MCI", "AD", "GBM")
FEATURES = 1200 * 32

ENCODER = EncoderConfig(width=48, depth=1, num_heads=4)
TOKENIZER = TokenizerConfig(encoder_width=48, widths=(16, 8, 8), blocks=(1, 1, 1), last_factor=4, num_heads=4)
DIT = DiTConfig(
    width=48, depth=1, num_heads=4,
    categories={"disease": DISEASES, "sex": ("F", "M"), "modality": ("T1", "T1C", "T2", "FLAIR")},
    prior="gaussian", prior_by="modality",
)
FORECASTER = DiTConfig(
    width=48, depth=1, num_heads=4, context_channels=32, categories={"disease": DISEASES, "sex": ("F", "M")},
    scalars={"age_years": (50.0, 20.0), "cdr": (0.5, 0.5), "horizon_years": (0.0, 5.0)},
    never_dropped=("disease", "horizon_years"), prior="gaussian", prior_components=2,
)


def make_tiny_checkpoint(folder: Path, seed: int = 1) -> Path:
    """Write encoder, tokenizer, dit, forecaster and probes under ``folder``; the same seed gives the same weights."""
    torch.manual_seed(seed)
    encoder = _save(folder, "encoder", Encoder(ENCODER), {})
    tokenizer = _save(folder, "tokenizer", _lively(Tokenizer(TOKENIZER)), {"encoder": encoder.id})
    parents = {"tokenizer": tokenizer.id}
    _save(folder, "dit", _moved(DiT(DIT)), parents)
    _save(folder, "forecaster", _moved(DiT(FORECASTER)), parents)
    config, arrays = _panel().save_arrays()
    spec = CheckpointSpec("probes", config, arrays, CARD, parents, dtype="keep")
    save_checkpoint(folder / "probes", spec)
    return folder


def make_tiny_bridge(folder: Path) -> Path:
    """Write ``bridge/forecaster`` into the set in ``folder``: the paper's kind, without context or prior."""
    torch.manual_seed(3)
    config = dataclasses.replace(FORECASTER, context_channels=0, prior="none", prior_components=0)
    bridge = DiT(config)
    torch.nn.init.normal_(bridge.tokens_out.weight, std=0.02)
    _save(folder / "bridge", "forecaster", bridge, {"tokenizer": load_checkpoint(folder / "tokenizer", "tokenizer").id})
    return folder / "bridge"


def with_plain_generator(folder: Path, out: Path) -> Path:
    """A copy of the set in ``folder`` as ``out/set``, whose generator is the paper's kind, without a prior."""
    model = DiT(dataclasses.replace(DIT, prior="none", prior_by=None))
    generator = _save(out, "dit", model, load_checkpoint(folder / "dit", "dit").parents)
    return with_another_generator(folder, generator.folder, out / "set")


def with_varied_generator(folder: Path, out: Path) -> Path:
    """A copy of the set in ``folder`` as ``out/set``, whose generator's elements vary together, by factors."""
    torch.manual_seed(4)
    model = _moved(DiT(dataclasses.replace(DIT, prior_factors=3)))
    assert model.prior is not None
    torch.nn.init.normal_(model.prior.factors, std=0.5)
    generator = _save(out, "dit", model, load_checkpoint(folder / "dit", "dit").parents)
    return with_another_generator(folder, generator.folder, out / "set")


def with_another_generator(folder: Path, generator: Path, out: Path) -> Path:
    """A copy of the set in ``folder`` as ``out``, with the generator that lies in ``generator``."""
    shutil.copytree(folder, out)
    shutil.rmtree(out / "dit")
    shutil.copytree(generator, out / "dit")
    return out


def _save(folder: Path, kind: str, model: Any, parents: dict[str, str]) -> Checkpoint:
    spec = CheckpointSpec(kind, dataclasses.asdict(model.config), model.state_dict(), CARD, parents, dtype="float32")
    return save_checkpoint(folder / kind, spec)


def _lively(tokenizer: Tokenizer) -> Tokenizer:
    """Zero-initialised convolutions would hide part of the decoder."""
    for parameter in tokenizer.decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return tokenizer


def _moved(model: DiT) -> DiT:
    """A prior whose mean depends on the conditions, and a network that answers something."""
    assert model.prior is not None
    torch.nn.init.normal_(model.prior.weight, std=0.5)
    torch.nn.init.normal_(model.tokens_out.weight, std=0.02)
    return model


def _panel() -> ProbePanel:
    rng = np.random.default_rng(1)

    def probe(task: str, kind: str, outputs: int, bias: float = 0.0, **rest: Any) -> LinearProbe:
        weights = rng.normal(0, 0.02, (outputs, FEATURES)).astype(np.float32)
        return LinearProbe(task, kind, "latents", weights, np.full(outputs, bias, np.float32), **rest)

    quality = {"metric": "none", "data": "random weights"}
    return ProbePanel(
        (
            probe("age", "regression", 1, 50.0, unit="years", half_width=8.0, quality=quality),
            probe("ventricle_volume", "regression", 1, 30.0, unit="ml", half_width=4.0, quality=quality),
            probe("sex", "classification", 2, classes=("F", "M"), quality=quality),
            probe("disease", "classification", 4, classes=DISEASES, quality=quality),
            probe("modality", "classification", 4, classes=("T1", "T1C", "T2", "FLAIR"), quality=quality),
        ),
        Familiarity(
            "latents", np.zeros(FEATURES, np.float32), np.eye(3, FEATURES, dtype=np.float32), np.ones(3, np.float32),
            float(np.sqrt(FEATURES)), 100.0,
        ),
    )
