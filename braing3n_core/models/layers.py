"""Shared layers. Shape legend: B batch, N tokens, D width, H heads, C channels, X Y Z voxels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 16
GRID: tuple[int, int, int] = (10, 12, 10)
"""Patches along X, Y, Z of the model grid 160x192x160 (paper, section 2.1)."""
NUM_TOKENS = GRID[0] * GRID[1] * GRID[2]


def patchify(volume: Tensor, patch: int = PATCH) -> Tensor:
    """(B,1,X,Y,Z) -> (B,N,patch^3); tokens in C order of the patch grid, voxels in C order inside a patch."""
    b, _, x, y, z = volume.shape
    v = volume.reshape(b, x // patch, patch, y // patch, patch, z // patch, patch)
    return v.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, -1, patch**3)


def unpatchify(tokens: Tensor, grid: tuple[int, int, int] = GRID, patch: int = PATCH) -> Tensor:
    """The inverse of :func:`patchify`: (B,N,patch^3) -> (B,1,X,Y,Z)."""
    b = tokens.shape[0]
    v = tokens.reshape(b, *grid, patch, patch, patch).permute(0, 1, 4, 2, 5, 3, 6)
    return v.reshape(b, 1, *(g * patch for g in grid))


HISTOGRAM_EDGES: tuple[float, float] = (-0.9, 3.3)
"""First and last centre of the bins of :func:`patch_histograms`, in z-scored intensity."""


def patch_histograms(patches: Tensor, bins: int) -> Tensor:
    """Shares of z-scored voxels by intensity, (B,N,patch^3) -> (B,N,bins); each row adds up to 1.

    A voxel between two centres counts for both in proportion; one beyond the ends counts for the end.
    """
    low, high = HISTOGRAM_EDGES
    position = ((patches - low) * ((bins - 1) / (high - low))).clamp(0, bins - 1)
    lower = position.floor().clamp(max=bins - 2)
    upper_share = position - lower
    counts = torch.zeros(*patches.shape[:-1], bins, dtype=patches.dtype, device=patches.device)
    counts.scatter_add_(-1, lower.long(), 1 - upper_share)
    counts.scatter_add_(-1, lower.long() + 1, upper_share)
    return counts / patches.shape[-1]


def sincos_positions(grid: tuple[int, int, int], width: int) -> Tensor:
    """Fixed 3D sine-cosine code (1,N,width): a sixth of the width for each of sin and cos on each axis, rest zero."""
    per_axis = width // 6
    frequencies = 1.0 / 10000 ** (torch.arange(per_axis, dtype=torch.float32) / per_axis)
    axes = torch.meshgrid(*(torch.arange(g, dtype=torch.float32) for g in grid), indexing="ij")
    parts = [f(axis.reshape(-1, 1) * frequencies) for axis in axes for f in (torch.sin, torch.cos)]
    code = torch.cat(parts, dim=1)  # (N, 6*per_axis)
    return F.pad(code, (0, width - code.shape[1]))[None]


class RMSNorm(nn.Module):
    """RMS normalisation in the type of its input: autocast leaves the weight in float32, and a mixed pair is slow."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if x.device.type != "cpu":
            return F.rms_norm(x, weight.shape, weight, self.eps)
        # A CPU has no kernel of its own for it; the length of each vector in one pass is twice as fast as its parts.
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = torch.rsqrt(length.float().square() / x.shape[-1] + self.eps)
        return x * inverse.to(x.dtype) * weight


class Attention(nn.Module):
    """Multi-head self-attention; ``qk_norm`` adds RMS normalisation of queries and keys (for stable bf16 training)."""

    def __init__(self, width: int, num_heads: int, *, qkv_bias: bool = True, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)
        head = width // num_heads
        self.q_norm = RMSNorm(head) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head) if qk_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # each (B,H,N,D/H)
        y = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class MLP(nn.Sequential):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Block(nn.Module):
    """Pre-norm transformer block, (B,N,D) -> (B,N,D)."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float = 4.0, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class AdaLNBlock(nn.Module):
    """Transformer block whose shift, scale and gate come from a condition vector, zero at the start (adaLN-Zero)."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.attn = Attention(width, num_heads, qk_norm=True)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (B,N,D), c (B,D) -> (B,N,D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(c))[:, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate1, self.attn(adaptive_norm(x, shift1, scale1)))
        return torch.addcmul(x, gate2, self.mlp(adaptive_norm(x, shift2, scale2)))


def adaptive_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm of x (B,N,D), then times (1 + scale) plus shift, both (B,1,D)."""
    shift, factor = shift.to(x.dtype), 1 + scale.to(x.dtype)
    if len(x) == 1:  # one condition for all tokens: the norm's own kernel multiplies and adds
        return F.layer_norm(x, x.shape[-1:], factor.flatten(), shift.flatten(), eps=1e-6)
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), factor)


WAVES: tuple[str, ...] = ("falling", "even")
"""How much each wave counts in the embedding of a number."""


class ScalarEmbedding(nn.Module):
    """A number as sines and cosines, then an MLP: (B,) -> (B,D). ``period`` is the largest distinguishable range.

    waves: one of :data:`WAVES`. ``falling``: a wave counts in proportion to its length, so that near numbers have near
    embeddings: what is learnt at one time is known at the times beside it, and an integrator meets a smooth velocity
    (ADR 22). ``even``: all count the same, as in checkpoints of format 1.
    """

    # Unspecified in the paper: the embedding of numbers. With waves of equal size, the usual choice for 1000 fixed
    # times, a velocity that was learnt in few steps differs between times a hundredth apart.
    frequencies: Tensor
    sizes: Tensor

    def __init__(
        self, width: int, *, features: int = 128, period: float = 10.0, waves: str = "falling"
    ) -> None:
        super().__init__()
        if waves not in WAVES:
            raise ValueError(f"waves must be one of {', '.join(WAVES)}, got {waves!r}")
        frequencies = 2 * math.pi / period * torch.logspace(0, 2.5, features // 2)
        sizes = _falling(frequencies) if waves == "falling" else torch.ones_like(frequencies)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, value: Tensor) -> Tensor:
        angle = value.float()[:, None] * self.frequencies
        return self.mlp(torch.cat([angle.sin() * self.sizes, angle.cos() * self.sizes], dim=1))


def _falling(frequencies: Tensor) -> Tensor:
    """Sizes of the waves (n,), inverse to their frequency, of mean square 1."""
    sizes = 1 / frequencies
    return sizes / sizes.square().mean().sqrt()


class ResBlock(nn.Module):
    """Two 3^3 convolutions with group norm and SiLU, plus the identity: (B,C,x,y,z) -> the same."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


def pixel_shuffle_3d(x: Tensor, factor: int) -> Tensor:
    """(B, C*factor^3, x, y, z) -> (B, C, x*factor, y*factor, z*factor), channels last in memory, for convolutions."""
    b, c, *size = x.shape
    x = x.reshape(b, c // factor**3, factor, factor, factor, *size).permute(0, 5, 2, 6, 3, 7, 4, 1)
    return x.reshape(b, *(s * factor for s in size), c // factor**3).permute(0, 4, 1, 2, 3)
