"""Conditions as tensors, and their embeddings (paper, section 2.3).

Each condition is known, *unknown* (missing in the metadata: its own embedding) or *null* (the guidance row).
Shape legend: B batch, K categorical conditions, S scalar conditions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from .layers import ScalarEmbedding

KNOWN, UNKNOWN, NULL = 0, 1, 2


@dataclass(frozen=True)
class ConditionSpec:
    """Which conditions a model knows.

    categories: name -> vocabulary in index order. scalars: name -> (centre, scale); age is (50, 20) years.
    never_dropped: conditions that dropout leaves alone (the paper: modality; in forecasts disease and horizon).
    limits: name -> (lowest, highest) that training saw; what lies beyond is taken at that end, for a network says
    nothing sensible there.
    """

    categories: Mapping[str, tuple[str, ...]]
    scalars: Mapping[str, tuple[float, float]]
    never_dropped: tuple[str, ...] = ()
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def standardised(self, name: str, value: float) -> float:
        """A scalar within its limits, in units of its scale."""
        centre, scale = self.scalars[name]
        low, high = self.limits.get(name, (-math.inf, math.inf))
        return (min(max(value, low), high) - centre) / scale

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.categories, *self.scalars)

    @property
    def amplified(self) -> tuple[str, ...]:
        """What guidance amplifies: classes that can be null. A number is what was asked for, and no more of it."""
        return tuple(name for name in self.categories if name not in self.never_dropped)


@dataclass(frozen=True)
class ConditionBatch:
    """index (B,K): word, len(vocabulary) for unknown, +1 for null. value (B,S) standardised. state (B,S)."""

    spec: ConditionSpec
    index: Tensor
    value: Tensor
    state: Tensor

    @classmethod
    def from_rows(cls, spec: ConditionSpec, rows: Sequence[Mapping[str, str | float | None]]) -> ConditionBatch:
        """Rows of name -> word, number or None (unknown). Raises KeyError for a word outside the vocabulary."""
        index = [[_word_index(words, row.get(name), name) for name, words in spec.categories.items()] for row in rows]
        scalars = [[row.get(name) for name in spec.scalars] for row in rows]
        value = [
            [0.0 if v is None else spec.standardised(name, float(v)) for name, v in zip(spec.scalars, r, strict=True)]
            for r in scalars
        ]
        state = [[UNKNOWN if v is None else KNOWN for v in r] for r in scalars]
        b = len(rows)
        return cls(
            spec,
            torch.tensor(index, dtype=torch.long).reshape(b, -1),
            torch.tensor(value, dtype=torch.float32).reshape(b, -1),
            torch.tensor(state, dtype=torch.long).reshape(b, -1),
        )

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> ConditionBatch:
        return replace(self, index=self.index.to(device), value=self.value.to(device), state=self.state.to(device))

    def expand(self, batch: int) -> ConditionBatch:
        """Repeat a batch of one."""
        return replace(
            self, index=self.index.expand(batch, -1), value=self.value.expand(batch, -1),
            state=self.state.expand(batch, -1),
        )

    @staticmethod
    def cat(parts: Sequence[ConditionBatch]) -> ConditionBatch:
        """Concatenate along the batch."""
        return ConditionBatch(
            parts[0].spec,
            torch.cat([p.index for p in parts]),
            torch.cat([p.value for p in parts]),
            torch.cat([p.state for p in parts]),
        )

    def rows(self, selection: Tensor | slice) -> ConditionBatch:
        return replace(self, index=self.index[selection], value=self.value[selection], state=self.state[selection])

    def words(self, name: str) -> list[str | None]:
        """The word of a category in each row; None where it is unknown or null."""
        vocabulary = self.spec.categories[name]
        column = self.index[:, list(self.spec.categories).index(name)].tolist()
        return [vocabulary[i] if i < len(vocabulary) else None for i in column]

    def null(self, names: Sequence[str] | None = None) -> ConditionBatch:
        """The guidance row: the named conditions (default: all but the never dropped) set to null."""
        chosen = set(self.spec.names) - set(self.spec.never_dropped) if names is None else set(names)
        mask = torch.tensor([name in chosen for name in self.spec.names], device=self.index.device)
        return self._nulled(mask.expand(len(self), -1))

    def drop(self, probability: float, generator: torch.Generator | None = None) -> ConditionBatch:
        """Each condition independently to null with this probability (classifier-free guidance training)."""
        droppable = torch.tensor([name not in self.spec.never_dropped for name in self.spec.names])
        chance = torch.rand(len(self), len(self.spec.names), generator=generator) < probability
        return self._nulled((chance & droppable).to(self.index.device))

    def _nulled(self, mask: Tensor) -> ConditionBatch:
        k = len(self.spec.categories)
        nulls = torch.tensor([len(w) + 1 for w in self.spec.categories.values()], device=self.index.device)
        return replace(
            self,
            index=torch.where(mask[:, :k], nulls, self.index),
            state=torch.where(mask[:, k:], NULL, self.state),
        )


def _word_index(words: tuple[str, ...], word: str | float | None, name: str) -> int:
    if word is None:
        return len(words)
    if word not in words:
        raise KeyError(f"{name}={word!r} is not one of {', '.join(words)}")
    return words.index(str(word))


class ConditionEmbedder(nn.Module):
    """The sum of all condition embeddings: ConditionBatch -> (B,D). waves: of :class:`ScalarEmbedding`."""

    def __init__(self, spec: ConditionSpec, width: int, waves: str = "falling") -> None:
        super().__init__()
        self.categories = nn.ModuleList(nn.Embedding(len(w) + 2, width) for w in spec.categories.values())
        self.scalars = nn.ModuleList(ScalarEmbedding(width, waves=waves) for _ in spec.scalars)
        self.missing = nn.ParameterList(nn.Parameter(torch.zeros(2, width)) for _ in spec.scalars)
        for table in [*self.categories, *self.missing]:
            nn.init.normal_(table.weight if isinstance(table, nn.Embedding) else table, std=0.02)

    def forward(self, conditions: ConditionBatch) -> Tensor:
        parts = [table(conditions.index[:, i]) for i, table in enumerate(self.categories)]
        for i, (embed, missing) in enumerate(zip(self.scalars, self.missing, strict=True)):
            state = conditions.state[:, i]
            known = embed(conditions.value[:, i])
            parts.append(torch.where((state == KNOWN)[:, None], known, missing[(state - 1).clamp(min=0)].to(known)))
        return torch.stack(parts).sum(0)
