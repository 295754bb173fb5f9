"""Which samples a training sees, in which order: the same on one process and on many, before and after a restart.

A *plan* says which samples make up an epoch; a :class:`Sampler` walks along it and is three numbers long::

    sampler = Sampler(balanced(strata_of(store.records), temperature=2.0), seed=1)
    rows = sampler.next_batch(batch_size, rank, world)   # this process's share of the next global batch
    state = sampler.state_dict()                         # {"seed", "epoch", "consumed"}: into the checkpoint
    sampler.load_state_dict(state)                       # goes on exactly there, with any number of processes

``batch_size`` is that of the whole batch over all processes and a multiple of ``world``; position i of a global batch
goes to process i % world. A batch may run over the end of an epoch into the next. Every process calls ``next_batch``
once a step. Plans: :func:`uniform` (each sample once), :func:`balanced` (strata by temperature),
:func:`horizon_balanced` (pairs of visits). Pure numpy: no state outside the object, no global random generator.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from braing3n_core.errors import BrainG3NError

Plan = Callable[[np.random.Generator], np.ndarray]
"""Draws the indices of one epoch (n,), in order, from a generator of that epoch alone."""
DISEASE_IDH1_MODALITY: tuple[str, ...] = ("disease", "idh1", "modality")
HORIZON_EDGES_YEARS: tuple[float, ...] = (-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0)


class SamplingError(BrainG3NError):
    """A sampler was asked for what it cannot give, or its state is not its own."""


class Sampler:
    """Walks along the epochs of a plan. seed, epoch, consumed are its whole state."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.seed, self.epoch, self.consumed = plan, seed, 0, 0
        self._drawn: tuple[tuple[int, int], np.ndarray] | None = None
        self._epoch_length = 0

    def order(self, epoch: int) -> np.ndarray:
        """The indices (n,) of an epoch in their global order; depends on the plan, the seed and the epoch alone."""
        if self._drawn is None or self._drawn[0] != (self.seed, epoch):
            self._drawn = ((self.seed, epoch), self.plan(np.random.default_rng([self.seed, epoch])))
        return self._drawn[1]

    def next_batch(self, batch_size: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """This process's indices (batch_size / world,) of the next global batch, and a step forward for all."""
        if not 0 <= rank < world or batch_size < 1 or batch_size % world:
            raise SamplingError(
                "sampling.world", f"A batch of {batch_size} cannot be parted over {world} processes (rank {rank}).",
                "Let the global batch be a multiple of the number of processes.",
            )
        parts: list[np.ndarray] = []
        missing = batch_size
        while missing:
            taken = self.order(self.epoch)[self.consumed : self.consumed + missing]
            parts.append(taken)
            missing -= len(taken)
            self.consumed += len(taken)
            if missing:
                self.epoch, self.consumed = self.epoch + 1, 0
        return np.concatenate(parts)[rank::world]

    def go_to(self, position: int) -> None:
        """Stand where ``position`` samples were drawn since the start. Every epoch of a plan must be equally long."""
        self._epoch_length = self._epoch_length or len(self.order(0))
        self.epoch, self.consumed = divmod(position, self._epoch_length)

    def state_dict(self) -> dict[str, int]:
        """What brings another sampler of the same plan to this very place."""
        return {"seed": self.seed, "epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where the state was taken. Raises :class:`SamplingError` for a state of something else."""
        names = ("seed", "epoch", "consumed")
        if set(state) != set(names) or any(int(state[n]) != state[n] or state[n] < 0 for n in names):
            raise SamplingError("sampling.state", f"{dict(state)} is no sampler's state.", "Pass state_dict().")
        self.seed, self.epoch, self.consumed = (int(state[n]) for n in names)
        length = len(self.order(self.epoch))
        if self.consumed > length:
            raise SamplingError(
                "sampling.other_data", f"The state has consumed {self.consumed} of an epoch of {length}.",
                "It belongs to another data set or plan: start the training anew.",
            )


def uniform(count: int) -> Plan:
    """Each of ``count`` samples once an epoch."""
    _some(count)
    return lambda generator: generator.permutation(count)


def balanced(strata: Sequence[Hashable], temperature: float = 1.0, people: Sequence[Hashable] | None = None) -> Plan:
    """Strata in proportion to size ** (1 / temperature): 1 leaves the data as they are, infinity makes strata equal.

    strata: one a sample. An epoch is as long as the data; a stratum's count in it differs from its share by less
    than 1. Within a stratum no sample is drawn again before all were; with ``people`` (one a sample) no person's
    second sample before everybody's first.
    """
    _some(len(strata))
    members = _groups(strata)
    sizes = np.array([len(m) for m in members], dtype=float)
    shares = stratum_shares(sizes, temperature)
    owners = np.arange(len(strata)) if people is None else _numbers(people)

    def plan(generator: np.random.Generator) -> np.ndarray:
        counts = _systematic(shares * len(strata), generator)
        drawn = [_draw(m, owners[m], n, generator) for m, n in zip(members, counts, strict=True)]
        return generator.permutation(np.concatenate(drawn))

    return plan


def stratum_shares(sizes: np.ndarray, temperature: float) -> np.ndarray:
    """Shares (k,) that sum to 1, of strata of the given sizes (k,)."""
    if not temperature >= 1.0:
        raise SamplingError(
            "sampling.temperature", f"The temperature is {temperature}.", "Give 1 or more; infinity is allowed."
        )
    weight = np.asarray(sizes, dtype=float) ** (1.0 / temperature)
    return weight / weight.sum()


def strata_of(records: Sequence[Mapping[str, Any]], names: Sequence[str] = DISEASE_IDH1_MODALITY) -> list[Hashable]:
    """The stratum of each record: its values of the named labels; an unknown label is a value of its own."""
    return [tuple(record.get(name) for name in names) for record in records]


def horizon_balanced(
    horizons_years: Sequence[float], people: Sequence[Hashable], edges_years: Sequence[float] = HORIZON_EDGES_YEARS,
    temperature: float = np.inf,
) -> Plan:
    """Pairs of visits so that short and long, forward and backward horizons come equally often.

    horizons_years (n,), signed, one a pair; people: whose pair it is, so that somebody with many visits does not
    outweigh the others. Empty bins between the edges are left out.
    """
    bins = np.searchsorted(np.asarray(edges_years, dtype=float), np.asarray(horizons_years, dtype=float), side="right")
    return balanced([int(b) for b in bins], temperature, people)


def _systematic(expected: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Whole numbers (k,) within 1 of the expected ones, with the same sum and exactly these means."""
    ends = np.floor(np.cumsum(expected) + generator.random() + 1e-9).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    counts[-1] += int(round(float(expected.sum()))) - int(counts.sum())
    return counts


def _draw(members: np.ndarray, owners: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """``count`` of the members, in rounds over all of them, owner by owner within a round."""
    rounds = [_by_turns(members, owners, generator) for _ in range(-(-count // len(members)))]
    return np.concatenate(rounds)[:count] if rounds else np.empty(0, dtype=np.int64)


def _by_turns(members: np.ndarray, owners: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """All members at random, such that nobody's second comes before everybody's first."""
    shuffled = generator.permutation(len(members))
    who = owners[shuffled]
    by_owner = np.argsort(who, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(who[by_owner]) != 0])
    lengths = np.diff(np.r_[first, len(who)])
    turn = np.empty(len(who), dtype=np.int64)
    turn[by_owner] = np.arange(len(who)) - np.repeat(first, lengths)
    return members[shuffled[np.argsort(turn, kind="stable")]]


def _groups(strata: Sequence[Hashable]) -> list[np.ndarray]:
    """Indices by stratum, in the order in which strata first appear."""
    numbers = _numbers(strata)
    return [np.flatnonzero(numbers == n) for n in range(int(numbers.max()) + 1)]


def _numbers(values: Sequence[Hashable]) -> np.ndarray:
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.int64)


def _some(count: int) -> None:
    if count < 1:
        raise SamplingError("sampling.empty", "There is nothing to draw from.", "Check the store and the labels.")
