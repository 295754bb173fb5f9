"""Which rows each step of a training sees: by chance, or balanced, as ``[<stage>.train]`` says.

    draws = Draws(len(records), config, balanced(strata_of(records, config.balance_by), config.balance_temperature))
    rows = draws(step, generator)      # of the whole batch, the same on every process; [share()] is this process's

The rows depend on the step, the seed and the data alone, so that a run which was resumed sees what the uninterrupted
one would have seen, on any number of processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braing3n_core.errors import ConfigError
from braing3n_core.schema import nearest

from .loop import TrainConfig
from .sampling import Plan, Sampler, balanced, horizon_balanced, strata_of, stratum_shares
from .store import Record, training_rows


class Draws:
    """Rows (B,) of the global batch of a step.

    plan None: each row by chance, from the step's own generator. Else where the plan's sampler stands at that step.
    """

    def __init__(self, count: int, config: TrainConfig, plan: Plan | None = None) -> None:
        self.count, self.batch_size = count, config.batch_size
        self.sampler = None if plan is None else Sampler(plan, config.seed)

    def __call__(self, step: int, generator: torch.Generator) -> Tensor:
        if self.sampler is None:
            return torch.randint(self.count, (self.batch_size,), generator=generator)
        self.sampler.go_to(step * self.batch_size)
        return torch.from_numpy(self.sampler.next_batch(self.batch_size))


def draws_of(records: Sequence[Record], config: TrainConfig) -> Callable[[int, torch.Generator], Tensor]:
    """How a stage that learns from single volumes draws them: those of its side of the split alone.

    Raises ConfigError for labels that no volume has, and what :func:`training.store.training_rows` raises.
    """
    rows = training_rows(records)
    seen, plan = [records[i] for i in rows], None
    if config.balance_temperature:
        plan = balanced(_strata(seen, config.balance_by), config.balance_temperature)
    draws, index = Draws(len(rows), config, plan), torch.tensor(rows)
    return lambda step, generator: index[draws(step, generator)]


def weights_of(records: Sequence[Record], config: TrainConfig) -> Tensor | None:
    """How much each of these volumes (n,) counts when all are looked at together, as the draws would have it.

    None where the draws are by chance: all count the same. The mean is 1.
    """
    if not config.balance_temperature:
        return None
    strata = _strata(records, config.balance_by)
    counts = Counter(strata)
    shares = stratum_shares(np.array(list(counts.values()), dtype=float), config.balance_temperature)
    weight = {stratum: share / counts[stratum] for stratum, share in zip(counts, shares, strict=True)}
    return torch.tensor([weight[stratum] * len(strata) for stratum in strata])


def draws_of_pairs(horizons_years: Sequence[float], people: Sequence[str], config: TrainConfig) -> Draws:
    """How the forecaster draws its pairs of visits: horizons (n,), signed, and whose pair each is."""
    if not config.balance_temperature:
        return Draws(len(horizons_years), config)
    plan = horizon_balanced(horizons_years, people, temperature=config.balance_temperature)
    return Draws(len(horizons_years), config, plan)


def _strata(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Hashable]:
    """The stratum of each volume. Raises ConfigError for a label that none of them has."""
    known = sorted({name for record in records for name in record})
    for name in names:
        if name not in known:
            raise ConfigError(
                "train.balance_by", f"No volume has the label {name!r}, by which the draws are to be balanced.",
                f"{nearest(name, known)}Labels of these volumes: {', '.join(known)}.",
            )
    return strata_of(records, names)
