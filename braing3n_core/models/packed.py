"""Linear layers as oneDNN multiplies them, for inference in bfloat16 on a CPU.

PyTorch's own linear layer puts the weights into the order of the processor's matrix unit at every call, and adds the
bias in a pass of its own. Here they are put into that order once. The operators are those to which ``torch.compile``
lowers a linear layer on a CPU; they are not public, so :func:`can_pack` tries them first.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from .layers import MLP


@cache
def can_pack() -> bool:
    """Whether this processor multiplies bfloat16, and this PyTorch has the operators and they answer as expected."""
    try:
        supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if not supported:
            return False
        layer, x = nn.utils.skip_init(nn.Linear, 8, 4).requires_grad_(False), torch.eye(8)
        layer.weight.copy_(torch.linspace(-2, 2, 32).reshape(4, 8))  # nothing random: seeds must not notice
        layer.bias.fill_(0.5)
        answers = [PackedLinear(layer)(x), PackedLinear(layer, gelu=True)(x)]
        expected = [layer(x), nn.functional.gelu(layer(x))]
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    # Under autocast what is expected is in bfloat16 too.
    return all(torch.allclose(y.float(), z.float(), atol=0.05) for y, z in zip(answers, expected, strict=True))


class PackedLinear(nn.Module):
    """A linear layer with packed weights in bfloat16: (...,D) of any type -> (...,E) in bfloat16.

    gelu: whether the product goes through a GELU in the same pass. The layer cannot be trained, saved or moved.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(torch.bfloat16))
        bias = None if layer.bias is None else layer.bias.detach().to(torch.bfloat16)
        self.register_buffer("weight", packed, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.activation = ("gelu", "none") if gelu else ("none", "")

    def forward(self, x: Tensor) -> Tensor:
        kind, algorithm = self.activation
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(torch.bfloat16), self.weight, self.bias, kind, [], algorithm
        )
        return y


def pack(network: nn.Module, but: nn.Module | None = None) -> None:
    """Put packed layers in the place of the linear ones, ``but`` and what is in it excepted.

    One after the other: what has been packed is let go, so that no two copies of all weights are held.
    """
    if isinstance(network, MLP) and isinstance(network[0], nn.Linear):
        network[0], network[1] = PackedLinear(network[0], gelu=True), nn.Identity()
    for name, child in list(network.named_children()):
        if child is but:
            continue
        if type(child) is nn.Linear:
            setattr(network, name, PackedLinear(child))
        else:
            pack(child, but)
