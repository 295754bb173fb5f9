"""The forecaster: from a subject's latents to their change over a horizon (paper, section 3.4; flow of change: ADR 9).

    python -m training.train_forecaster training/configs/small.toml --tokenizer T --latents SET [SET...] --out RUN

``[forecaster.extra] preset = "bridge"`` trains the paper's own forecaster instead: a velocity from baseline to
follow-up, without the baseline beside it and without a prior, by which the engine knows it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.errors import ConfigError
from braing3n_core.generation.flow import BridgePath, Pair, flow_matching_loss, sample_times
from braing3n_core.generation.forecast import change_scale
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT, DiTConfig

from .conditions import Reliability, conditions_of, fit_prior
from .draws import Draws, draws_of_pairs
from .latents import LatentSet
from .loop import Batch, TrainingError, train
from .parallel import share
from .stage import Settings, add_latents, arguments, command, names_of, save_stage
from .store import Record, matching
from .train_dit import FlowMatching, require_channels


@dataclass(frozen=True)
class Pairs:
    """Two visits of one subject in one modality: baseline and follow-up indices (n,), horizon_years (n,), signed."""

    baseline: Tensor
    follow_up: Tensor
    horizon_years: Tensor


def visit_pairs(records: list[Record], modality: str = "T1") -> Pairs:
    """All ordered pairs of visits, backward ones too.

    A visit without an age has no distance from another, and two at one age (a repeated scan, ages in whole years) have
    no time between them in which to change: neither makes a pair.
    """
    visits: dict[str, list[int]] = defaultdict(list)
    for i in matching(records, {"modality": modality}):
        if records[i].get("age_years") is not None:
            visits[records[i]["subject"]].append(i)
    age = [record.get("age_years") for record in records]
    pairs = [(a, b) for group in visits.values() for a in group for b in group if age[a] != age[b]]
    ages = [age[b] - age[a] for a, b in pairs]
    index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return Pairs(index[:, 0], index[:, 1], torch.tensor(ages, dtype=torch.float32))


@dataclass(frozen=True)
class ForecasterTraining:
    """preset: ``change`` (a flow of the change, ADR 9) or ``bridge`` (the paper's path from baseline to follow-up).

    bridge_sigma and bridge_envelope: the bridge's training noise. reliability: least one at which an effect in the
    Gaussian's mean has a map of its own; 0 gives one to all (ADR 27). left_out: conditions that nothing is learnt of.
    What is seldom given should be, if it says the same as others: unknown it takes its average, ill people's included.
    """

    preset: str = "change"
    bridge_sigma: float = 0.1
    bridge_envelope: str = "parabolic"
    reliability: float = 0.0
    left_out: tuple[str, ...] = ()


class BridgeMatching(nn.Module):
    """The paper's loss: baseline, follow-up (B,N,C), t (B,), noise (B,N,C), conditions -> scalar."""

    def __init__(self, network: DiT, path: BridgePath) -> None:
        super().__init__()
        self.network, self.path = network, path

    def forward(self, baseline: Tensor, follow_up: Tensor, t: Tensor, eps: Tensor, rows: ConditionBatch) -> Tensor:
        pair = Pair(baseline, follow_up, eps=eps)
        return flow_matching_loss(lambda x, time: self.network(x, time, rows), self.path, pair, t)


@dataclass(frozen=True)
class Visits:
    """What both presets draw from: pairs of visits with their latents, and one row of conditions a pair."""

    data: LatentSet
    pairs: Pairs
    conditions: ConditionBatch
    dropout: float
    device: torch.device
    draws: Draws

    def draw_change(self, step: int, generator: torch.Generator) -> Batch:
        """A batch of the flow of change."""
        scale = change_scales(self.pairs)
        chosen = self.draws(step, generator)
        source = torch.randn(len(chosen), *self.data.latents.shape[1:], generator=generator)
        t = sample_times(len(chosen), generator=generator)
        rows = self._rows(chosen, generator)
        # The change of a short horizon is mostly noise of position and scan, divided by a small number: it weighs less.
        weight, mine = scale[chosen].square(), chosen[share()]
        tensors = (source[share()], self.change(mine, scale), t[share()])
        source, target, t = (x.to(self.device) for x in tensors)
        context = self.data.latents[self.pairs.baseline[mine]].to(self.device)
        weights = (weight[share()].to(self.device), weight.mean().to(self.device))
        return Batch((source, target, t, rows, context, weights), self._names(mine))

    def draw_bridge(self, step: int, generator: torch.Generator) -> Batch:
        """A batch of the paper's bridge."""
        chosen = self.draws(step, generator)
        eps = torch.randn(len(chosen), *self.data.latents.shape[1:], generator=generator)
        t = sample_times(len(chosen), generator=generator)
        rows = self._rows(chosen, generator)
        mine = chosen[share()]
        ends = (self.data.latents[self.pairs.baseline[mine]], self.data.latents[self.pairs.follow_up[mine]])
        tensors = (*ends, t[share()], eps[share()])
        return Batch((*(x.to(self.device) for x in tensors), rows), self._names(mine))

    def change(self, rows: Tensor, scale: Tensor) -> Tensor:
        """Change of the latents per unit of time (len(rows),N,C)."""
        latents, pairs = self.data.latents, self.pairs
        return (latents[pairs.follow_up[rows]] - latents[pairs.baseline[rows]]) / scale[rows, None, None]

    def subjects(self) -> list[str]:
        """Whose pair each is."""
        return [str(self.data.records[i]["subject"]) for i in self.pairs.baseline.tolist()]

    def _rows(self, chosen: Tensor, generator: torch.Generator) -> ConditionBatch:
        rows = self.conditions.rows(chosen.to(self.device))
        return rows.drop(self.dropout, generator).rows(share())

    def _names(self, mine: Tensor) -> list[str]:
        ends = zip(self.pairs.baseline[mine].tolist(), self.pairs.follow_up[mine].tolist(), strict=True)
        return [" -> ".join(names_of(self.data.records, pair)) for pair in ends]


class ChangeMatching(FlowMatching):
    """The weighted loss of the flow of change; weights: of these rows, and the mean of the whole batch's."""

    def forward(
        self, source: Tensor, target: Tensor, t: Tensor, conditions: ConditionBatch, context: Tensor,
        weights: tuple[Tensor, Tensor],
    ) -> Tensor:
        weight, mean_weight = weights
        loss = self.network.loss(source, target, t, conditions, context=context, weight=weight)
        return loss * (weight.mean() / mean_weight)  # 1 where one process has the whole batch


def change_scales(pairs: Pairs) -> Tensor:
    """The unit of time of each pair (n,)."""
    return torch.tensor([change_scale(h) for h in pairs.horizon_years.tolist()])


def objective_of(config: DiTConfig, extra: ForecasterTraining, visits: Visits) -> nn.Module:
    """The network with its loss, the Gaussian prior fitted."""
    model = DiT(config)
    if extra.preset == "bridge":
        return BridgeMatching(model, BridgePath(extra.bridge_sigma, extra.bridge_envelope))
    if model.prior is not None:
        scale = change_scales(visits.pairs)
        fit_prior(
            model.prior, visits.conditions.to("cpu"), visits.change(torch.arange(len(scale)), scale),
            context=visits.data.latents[visits.pairs.baseline], weight=scale.square(),
            reliability=Reliability(visits.subjects(), extra.reliability) if extra.reliability else None,
        )
    return ChangeMatching(model)


def require_preset(config: DiTConfig, extra: ForecasterTraining) -> None:
    """Raises ConfigError unless the sizes are those of the preset; engines tell the preset by the context.

    What is left out must be conditions of the model, and not the horizon.
    """
    if extra.preset not in ("change", "bridge"):
        raise ConfigError("forecaster.preset", f"Unknown preset {extra.preset!r}.", "Use change or bridge.")
    unknown = sorted(set(extra.left_out) - ({*config.categories, *config.scalars} - {"horizon_years"}))
    if unknown:
        raise ConfigError(
            "forecaster.left_out", f"left_out names {', '.join(unknown)}, which is no condition that can be left out.",
            "Name conditions of [forecaster.model], without the horizon.",
        )
    if extra.preset == "change" and config.context_channels != config.channels:
        raise ConfigError(
            "forecaster.context", f"The flow of change reads the baseline, but context_channels is "
            f"{config.context_channels}.", f"Set context_channels = {config.channels} in [forecaster.model].",
        )
    if extra.preset == "bridge" and (config.context_channels or config.prior != "none"):
        raise ConfigError(
            "forecaster.context", "The bridge starts from the baseline and knows neither context nor prior.",
            'Set context_channels = 0 and prior = "none" in [forecaster.model].',
        )


def main() -> None:
    """Train and write ``RUN/forecaster``."""
    options = add_latents(arguments(__doc__ or "")).parse_args()
    settings = Settings("forecaster", options)
    parent = load_checkpoint(options.tokenizer, "tokenizer")
    data, extra = LatentSet.open(options.latents, parent.id).for_training(), settings.extra(ForecasterTraining)
    pairs, config, train_config = visit_pairs(data.records), settings.model("forecaster", DiTConfig), settings.train
    require_preset(config, extra)
    require_channels(config, data.latents.shape[-1], settings.file)
    if not len(pairs.horizon_years):
        raise TrainingError(
            "train.no_pairs", "No subject has two T1 visits at two known ages.",
            "Give latent sets of repeated visits to --latents.",
        )
    torch.manual_seed(train_config.seed)
    records = [data.records[i] for i in pairs.baseline.tolist()]
    unknown: dict[str, list[None]] = {name: [None] * len(records) for name in extra.left_out}
    conditions = conditions_of(records, config.spec(), horizon_years=pairs.horizon_years.tolist(), **unknown)
    draws = draws_of_pairs(pairs.horizon_years.tolist(), [str(r["subject"]) for r in records], train_config)
    visits = Visits(
        data, pairs, conditions.to(settings.device), config.condition_dropout, settings.device, draws
    )
    objective = objective_of(config, extra, visits).to(settings.device)
    run = settings.run(len(pairs.horizon_years), (config, extra), {"tokenizer": parent.id})
    best = train(objective, visits.draw_bridge if extra.preset == "bridge" else visits.draw_change, run)
    metrics = {"pairs": len(pairs.horizon_years), "preset": extra.preset}
    seen = [data.records[i] for i in sorted({*pairs.baseline.tolist(), *pairs.follow_up.tolist()})]
    save_stage(options.out, "forecaster", best.network, {"tokenizer": parent.id}, metrics, seen)


if __name__ == "__main__":
    command(main)
