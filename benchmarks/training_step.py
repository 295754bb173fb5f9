"""One training step of a stage, at the sizes of a configuration and on random inputs: what the benchmarks measure."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from braing3n_core.atlas import MODEL_SHAPE
from braing3n_core.generation.flow import BridgePath
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT, DiTConfig
from braing3n_core.models.layers import NUM_TOKENS
from braing3n_core.models.mae import MAEConfig, random_keep
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig
from training.acceleration import adamw, autocast
from training.pretrain_mae import MAETraining, Pretraining
from training.stage import Settings
from training.train_dit import FlowMatching
from training.train_forecaster import BridgeMatching, ForecasterTraining
from training.train_tokenizer import Reconstruction

PAPER = Path(__file__).resolve().parents[1] / "training" / "configs" / "paper.toml"
STAGES = ("mae", "tokenizer", "dit", "forecaster")


class TrainingStep:
    """Forward, backward, clipping, AdamW on one batch that is on the device already; calling it is one step."""

    def __init__(self, stage: str, config: Path, batch: int, device: str = "auto") -> None:
        options = Namespace(config=config, out=Path("."), resume="never", set=[], device=device, minutes=None)
        settings = Settings(stage, options)
        self.train, self.device, self.batch = settings.train, settings.device, batch
        objective, inputs = objective_of(stage, settings, batch)
        self.objective = objective.to(self.device)
        self.inputs = tuple(x.to(self.device) if hasattr(x, "to") else x for x in inputs)
        self.optimiser = adamw([{"params": self.objective.parameters()}], 1e-4, self.train.betas, self.device)

    def __call__(self) -> Tensor:
        """The loss, a scalar on the device; on a GPU the work may still be under way."""
        with autocast(self.device, self.train.precision):
            loss = self.objective(*self.inputs)
        loss.backward()
        nn.utils.clip_grad_norm_(self.objective.parameters(), self.train.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.detach()


def objective_of(stage: str, settings: Settings, batch: int) -> tuple[nn.Module, tuple[Any, ...]]:
    """The stage's objective at the sizes of the file, and inputs of the right shapes: of the forecaster's flow of
    change noise, change, times, conditions and baseline, of its bridge baseline, follow-up, times, noise, conditions.
    """
    volume, tokens = torch.randn(batch, 1, *MODEL_SHAPE), torch.randn(batch, NUM_TOKENS, 32)
    if stage == "mae":
        config = settings.model("mae", MAEConfig)
        return Pretraining(config, settings.extra(MAETraining)), (volume, random_keep(batch, config.mask_ratio))
    if stage == "tokenizer":
        sizes = settings.model("tokenizer", TokenizerConfig)
        return Reconstruction(Tokenizer(sizes)), (torch.randn(batch, NUM_TOKENS, sizes.encoder_width), volume, True)
    network = DiT(settings.model(stage, DiTConfig))
    rows = ConditionBatch.from_rows(network.spec, [{}] * batch)
    flow = (torch.randn_like(tokens), tokens, torch.rand(batch), rows)
    if stage == "dit":
        return FlowMatching(network), flow
    extra = settings.extra(ForecasterTraining)
    if extra.preset == "change":
        return FlowMatching(network), (*flow, torch.randn_like(tokens))
    bridge = BridgeMatching(network, BridgePath(extra.bridge_sigma, extra.bridge_envelope))
    return bridge, (tokens, torch.randn_like(tokens), torch.rand(batch), torch.randn_like(tokens), rows)
