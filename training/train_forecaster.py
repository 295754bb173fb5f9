"""The forecaster: from a subject's latents to their change over a horizon (paper, section 3.4; flow of change: ADR 9).

    python -m training.train_forecaster training/configs/small.toml --tokenizer T --latents SET [SET...] --out RUN

--path bridge trains the paper's own forecaster instead: a velocity from baseline to follow-up, without the baseline
beside it and without a prior. The checkpoint says which it is, and the engine forecasts accordingly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from braing3n_core.calibration import PATHS
from braing3n_core.checkpoint import load_checkpoint
from braing3n_core.generation.flow import BridgePath, Pair, flow_matching_loss, sample_times
from braing3n_core.generation.forecast import change_scale
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT, DiTConfig

from .conditions import conditions_of, fit_prior
from .latents import LatentSet
from .loop import train
from .stage import Settings, add_latents, arguments, save_stage
from .store import Record, matching


@dataclass(frozen=True)
class Pairs:
    """Two visits of one subject in one modality: baseline and follow-up indices (n,), horizon_years (n,), signed."""

    baseline: Tensor
    follow_up: Tensor
    horizon_years: Tensor


def visit_pairs(records: list[Record], modality: str = "T1") -> Pairs:
    """All ordered pairs of visits, backward ones too."""
    visits: dict[str, list[int]] = defaultdict(list)
    for i in matching(records, {"modality": modality}):
        visits[records[i]["subject"]].append(i)
    pairs = [(a, b) for group in visits.values() for a in group for b in group if a != b]
    ages = [records[b]["age_years"] - records[a]["age_years"] for a, b in pairs]
    index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return Pairs(index[:, 0], index[:, 1], torch.tensor(ages))


def _bridge_loss(
    model: DiT, latents: Tensor, pairs: Pairs, conditions: ConditionBatch, settings: Settings
) -> Callable[[int, torch.Generator], Tensor]:
    """The paper's: a velocity along the noisy bridge from baseline to follow-up."""
    device, size = settings.device, settings.train.batch_size

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pairs.baseline), (size,), generator=generator)
        before, after = (latents[index[chosen]].to(device) for index in (pairs.baseline, pairs.follow_up))
        eps = torch.randn(before.shape, generator=generator).to(device)
        t = sample_times(size, generator=generator).to(device)
        rows = conditions.rows(chosen.to(device)).drop(model.config.condition_dropout, generator)
        return flow_matching_loss(lambda x, time: model(x, time, rows), BridgePath(), Pair(before, after, eps=eps), t)

    return loss


def main() -> None:
    """Train and write ``RUN/forecaster``."""
    parser = add_latents(arguments(__doc__ or ""))
    parser.add_argument("--path", choices=PATHS, default="change")
    options = parser.parse_args()
    settings = Settings("forecaster", options)
    data = LatentSet.open(options.latents)
    latents = data.latents
    parent = load_checkpoint(options.tokenizer, "tokenizer")
    pairs, config = visit_pairs(data.records), settings.model("forecaster", DiTConfig)
    if options.path == "bridge":
        config = replace(config, context_channels=0, prior="none", prior_components=0)
    torch.manual_seed(settings.train.seed)
    model = DiT(config)
    records = [data.records[i] for i in pairs.baseline.tolist()]
    conditions = conditions_of(records, model.spec, horizon_years=pairs.horizon_years.tolist())
    scale = torch.tensor([change_scale(h) for h in pairs.horizon_years.tolist()])
    # The change of a short horizon is mostly noise of position and scan, divided by a small number: it weighs less.
    weight = scale.square()

    def change(rows: Tensor) -> Tensor:
        return (latents[pairs.follow_up[rows]] - latents[pairs.baseline[rows]]) / scale[rows, None, None]

    if model.prior is not None:
        everything = torch.arange(len(scale))
        fit_prior(
            model.prior, conditions, change(everything), context=latents[pairs.baseline], weight=weight, ridge=1.0
        )
    model, conditions = model.to(settings.device), conditions.to(settings.device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(scale), (settings.train.batch_size,), generator=generator)
        target, context = change(chosen).to(settings.device), latents[pairs.baseline[chosen]].to(settings.device)
        source = torch.randn(target.shape, generator=generator).to(settings.device)
        t = sample_times(len(chosen), generator=generator).to(settings.device)
        rows = conditions.rows(chosen.to(settings.device)).drop(config.condition_dropout, generator)
        return model.loss(source, target, t, rows, context=context, weight=weight[chosen].to(settings.device))

    chosen_loss = _bridge_loss(model, latents, pairs, conditions, settings) if options.path == "bridge" else loss
    best = train(model, chosen_loss, settings.train, options.out, settings.device)
    metrics = {"pairs": len(scale), "path": options.path}
    save_stage(options.out, "forecaster", best, {"tokenizer": parent.id}, metrics)


if __name__ == "__main__":
    main()
