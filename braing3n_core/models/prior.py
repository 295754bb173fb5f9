"""A conditional Gaussian as the starting point of a velocity network (ADR 5).

# Deviation: ADR 5. The paper's DiT learns the whole velocity. With little data and compute most of what it must learn
is the mean of the latents given the conditions, and that has a closed form. If x_1 ~ N(mu(c), sigma^2) per element and
x_0 ~ N(0, 1), then along x_t = t x_1 + (1-t) x_0 with s_t^2 = t^2 sigma^2 + (1-t)^2

    E[x_1 - x_0 | x_t] = mu + (t sigma^2 - (1-t)) / s_t^2 * (x_t - t mu),   Var = sigma^2 / s_t^2.

The network then sees the whitened input (x_t - t mu) / s_t and predicts what is left, in units of sigma / s_t.
``prior = "none"`` in the config is the paper's plain velocity.

With factors W (K rows) the elements vary together, x_1 ~ N(mu(c), S) with S = diag(sigma^2) + W^T W, and with
C_t = t^2 S + (1-t)^2 I

    E[x_1 - x_0 | x_t] = mu + (t S - (1-t) I) C_t^-1 (x_t - t mu),

where C_t is inverted through a matrix of K by K (Woodbury). With fields neighbouring tokens vary together too: they are
in ``fields.py``. Sigma and the spread of the elements are those of each group (modality) then, and W is A_g W: which
sums of the factors vary, and how much, is another matter in each contrast.

With maps the mean is made of few (M rows): mu = design shares maps, instead of one map for each column (ADR 28).

Shape legend: B batch, N tokens, C channels, P = N C, F features of the conditions, R components of the baseline,
K factors, M maps, G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .conditions import KNOWN, ConditionBatch, ConditionSpec
from .fields import TokenFields

READ_AT = 0.95
"""The time at which the common part of a brain is read. At 1 elements that hardly vary would say nearly everything, and
what a sampler in few steps leaves in them came back five times as large (ADR 31).
"""


class ConditionFeatures(nn.Module):
    """Conditions as a plain design matrix (B,F): intercept, words one-hot, scalars and their squares.

    What is unknown or null takes the training mean of its columns, so null means the marginal. With ``by`` the whole
    row is repeated for each word of that condition (every modality has its own coefficients).
    """

    averages: Tensor

    def __init__(self, spec: ConditionSpec, by: str | None = None) -> None:
        super().__init__()
        self.spec, self.by = spec, by
        self.groups = len(spec.categories[by]) if by else 1
        words = sum(len(w) for name, w in spec.categories.items() if name != by)
        self.columns = 1 + words + 2 * len(spec.scalars)
        self.register_buffer("averages", torch.zeros(self.columns))

    @property
    def size(self) -> int:
        return self.groups * self.columns

    def forward(self, conditions: ConditionBatch) -> Tensor:
        row, known = self.rows(conditions)
        row = torch.where(known, row, self.averages)
        if self.by is None:
            return row
        one_hot = nn.functional.one_hot(self.group(conditions), self.groups).to(row)
        return (one_hot[:, :, None] * row[:, None, :]).flatten(1)

    def group(self, conditions: ConditionBatch) -> Tensor:
        """Which word of ``by`` each row has (B,); 0 without ``by``."""
        if self.by is None:
            return torch.zeros_like(conditions.index[:, 0])
        position = list(self.spec.categories).index(self.by)
        return conditions.index[:, position].clamp(max=self.groups - 1)

    def rows(self, conditions: ConditionBatch) -> tuple[Tensor, Tensor]:
        """(B, columns) values and whether each is known."""
        values = [torch.ones(len(conditions), 1, device=conditions.index.device)]
        known = [torch.ones(len(conditions), 1, dtype=torch.bool, device=conditions.index.device)]
        for i, (name, words) in enumerate(self.spec.categories.items()):
            if name != self.by:
                index = conditions.index[:, i]
                values.append(nn.functional.one_hot(index, len(words) + 2)[:, : len(words)].float())
                known.append((index < len(words))[:, None].expand(-1, len(words)))
        for i in range(len(self.spec.scalars)):
            value = conditions.value[:, i : i + 1]
            values += [value, value.square()]
            known.append((conditions.state[:, i : i + 1] == KNOWN).expand(-1, 2))
        return torch.cat(values, 1), torch.cat(known, 1)


class GaussianPrior(nn.Module):
    """mu(c, baseline) of the target, sigma and factors of what varies about it, and the velocity they imply."""

    weight: Tensor
    shares: Tensor
    maps: Tensor
    sigma: Tensor
    factors: Tensor
    mixing: Tensor
    components: Tensor
    centre: Tensor

    def __init__(
        self, spec: ConditionSpec, shape: tuple[int, int], *, by: str | None = None, components: int = 0,
        factors: int = 0, maps: int = 0,
    ) -> None:
        """shape: (N, C). by: the condition with coefficients of its own. The rest: how many of each, 0 for none."""
        super().__init__()
        self.features = ConditionFeatures(spec, by)
        self.shape = shape
        size = shape[0] * shape[1]
        columns = self.features.size + components
        # What a prior does not have is not stored, and checkpoints from before there was such a thing still fit.
        self.register_buffer("weight", torch.zeros(0 if maps else columns, size), persistent=maps == 0)
        self.register_buffer("shares", torch.zeros(columns, maps), persistent=maps > 0)
        self.register_buffer("maps", torch.zeros(maps, size, dtype=torch.int8), persistent=maps > 0)
        self.register_buffer("sigma", torch.ones(shape))
        self.register_buffer("factors", torch.zeros(factors, size), persistent=factors > 0)
        self.register_buffer("components", torch.zeros(components, size))
        self.register_buffer("centre", torch.zeros(size if components else 0))
        self.fields: TokenFields | None = None

    def add_fields(self, count: int, waves: int) -> None:
        """Let neighbouring tokens of the grid vary together. Each group has its own fields, a sigma (G,N,C), and its
        own sums of the factors, mixing (G,K,K).
        """
        groups = self.features.groups
        same = torch.eye(len(self.factors)).repeat(groups, 1, 1)
        self.register_buffer("mixing", same, persistent=len(self.factors) > 0)
        self.fields = TokenFields(groups, self.shape[1], count=count, waves=waves)
        self.sigma = torch.ones(groups, *self.shape)

    def variance(self, group: int = 0) -> Tensor:
        """All that varies in each element (N,C) about the mean; with fields that of one group, else of all."""
        if self.fields is None:
            return self.sigma**2 + self.factors.square().sum(0).reshape(self.shape)
        with torch.autocast(self.sigma.device.type, enabled=False):
            of_factors = self.factors_of(group).square().sum(0).reshape(self.shape)
            return self.sigma[group] ** 2 + of_factors + self.fields.variance(group)

    def factors_of(self, group: int) -> Tensor:
        """A_g W (K,P): the factors of one group; needs fields."""
        return self.mixing[group] @ self.factors

    def design(self, conditions: ConditionBatch, context: Tensor | None = None) -> Tensor:
        """(B, F+R): condition features, then the baseline's scores on the stored components."""
        columns = self.features(conditions)
        if not len(self.components) or context is None:
            return columns
        return torch.cat([columns, (context.flatten(1) - self.centre) @ self.components.T], 1)

    def mean(self, conditions: ConditionBatch, context: Tensor | None = None) -> Tensor:
        """mu (B,N,C), always in float32: bfloat16 would round away the small change that an edit is."""
        with torch.autocast(self.weight.device.type, enabled=False):
            design = self.design(conditions, context)
            mu = design @ self.shares @ self.maps.to(design) if len(self.maps) else design @ self.weight
            return mu.reshape(-1, *self.shape)

    @torch.no_grad()
    def set_coefficients(self, coefficients: Tensor) -> None:
        """Keep the coefficients (F+R,P) of the mean: as they are, or as the nearest that have so few maps.

        A map is kept in 63rds of its largest number: finer than it is sure of.
        """
        if not len(self.maps):
            self.weight.copy_(coefficients)
            return
        left, sizes, right = torch.linalg.svd(coefficients.double(), full_matrices=False)
        count = len(self.maps)
        step = right[:count].abs().amax(1) / 63
        self.maps.copy_((right[:count] / step[:, None]).round())
        self.shares.copy_(left[:, :count] * sizes[:count] * step)

    def expected(
        self, x: Tensor, t: Tensor, conditions: ConditionBatch, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`velocity` under these conditions; x (B,N,C), t (B,)."""
        mu = self.mean(conditions, context)
        return self.velocity(x, t[:, None, None], mu, self.features.group(conditions))

    def velocity(
        self, x: Tensor, t: Tensor, mu: Tensor, group: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B,N,C), t (B,1,1) -> (Gaussian velocity, whitened input, scale of the network's output), float32.

        group (B,): of each row, as the features tell it; needed with fields alone. Input and scale take each element by
        itself, with all of its variance: with factors or fields what is left of the velocity has at most the variance
        of the scale, and exactly that at both ends of the path.
        """
        offset = x - t * mu
        if self.fields is None:
            total = self.variance()
        elif group is None:
            raise ValueError("a prior with fields needs the group of each row")
        else:
            groups, of_row = group.unique(return_inverse=True)
            total = torch.stack([self.variance(own) for own in groups.tolist()])[of_row]
        spread = torch.sqrt(t**2 * total + (1 - t) ** 2)
        if self.fields is not None and group is not None:
            velocity = mu + self._with_fields(self.fields, offset, t.flatten(), group).to(offset.dtype)
        elif len(self.factors):
            velocity = mu + self._coloured(offset, t).to(offset.dtype)
        else:
            velocity = mu + (t * total - (1 - t)) / spread**2 * offset
        return velocity, offset / spread, total.sqrt() / spread

    def _with_fields(self, fields: TokenFields, offset: Tensor, t: Tensor, group: Tensor) -> Tensor:
        """Rows of one time and one group share what is inverted: a sampler has one time, training as many as rows."""
        with torch.autocast(offset.device.type, enabled=False):
            found = torch.empty_like(offset, dtype=torch.float64)
            kinds, of_row = torch.unique(torch.stack([t.double(), group.double()], 1), dim=0, return_inverse=True)
            for i, (time, of) in enumerate(kinds):
                rows, own = of_row == i, int(of)
                found[rows] = fields.velocity(offset[rows], time, own, self.sigma[own], self.factors_of(own))
            return found

    def _coloured(self, offset: Tensor, t: Tensor) -> Tensor:
        """(t S - (1-t) I) C_t^-1 offset (B,N,C), in float64: near the brain the two terms of the inverse are large and
        nearly equal, and float32 would leave a thousandth of the answer to chance.
        """
        with torch.autocast(offset.device.type, enabled=False):
            factors, sigma = self.factors.double(), self.sigma.flatten().double()
            weighed = self._weighed(offset, t)
            common = weighed @ factors.T @ factors
            t = t.double().flatten(1)
            return (t * (sigma**2 * weighed + common) - (1 - t) * weighed).reshape(offset.shape)

    def _weighed(self, offset: Tensor, t: Tensor) -> Tensor:
        """C_t^-1 offset (B,P) with factors alone, in float64."""
        # A sampler asks for one time, training for B.
        times, row = torch.unique(t.double().flatten(), return_inverse=True)
        square, factors, sigma = times[:, None] ** 2, self.factors.double(), self.sigma.flatten().double()
        own = square * sigma**2 + (1 - times[:, None]) ** 2  # (T,P)
        inner = (factors / own[:, None]) @ factors.T * square[..., None]  # (T,K,K)
        inner = inner + torch.eye(len(factors), dtype=inner.dtype, device=inner.device)
        plain = offset.flatten(1) / own[row]
        scores = torch.linalg.solve(inner[row], plain @ factors.T)  # (B,K)
        return plain - (square / own)[row] * (scores @ factors)

    @property
    def has_common(self) -> bool:
        """Whether elements vary together at all; else nothing is common and all is specific."""
        return self.fields is not None or len(self.factors) > 0

    def common(self, offset: Tensor, group: Tensor, time: float = READ_AT) -> Tensor:
        """The common part (B,N,C) of offsets from the mean (B,N,C), float32: what waves and factors are expected to
        have moved of them (ADR 31). The rest is specific to a token or an element. group (B,): of each row. time: of a
        path on whose noise offsets are read, t^2 S_common C_t^-1 offset; at 1 they count as exact.
        """
        with torch.autocast(offset.device.type, enabled=False):
            t = torch.tensor(time, dtype=torch.float64, device=offset.device)
            if self.fields is None:
                factors = self.factors.double()
                weighed = self._weighed(offset, t.expand(len(offset), 1, 1))
                return (t**2 * weighed @ factors.T @ factors).reshape(offset.shape).to(offset)
            found = torch.empty_like(offset)
            for own in group.unique().tolist():
                rows = group == own
                found[rows] = self.fields.common(offset[rows], t, own, self.sigma[own], self.factors_of(own)).to(offset)
            return found
