"""The exponential moving average of the weights: what a stage's checkpoint holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .parallel import whole


class Ema:
    """Moving average of parameters, buffers as they are; early on it forgets faster, so short runs average too."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.buffers = {name: b.detach().clone() for name, b in model.named_buffers()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, current in model.named_parameters():
            self.parameters[name].lerp_(current.detach(), 1 - decay)
        for name, current in model.named_buffers():
            self.buffers[name].copy_(current)

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name; the tensors themselves, so that a state can be read into them."""
        return {**self.parameters, **self.buffers}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`. Raises KeyError for a name that is missing."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def put_into(self, model: nn.Module) -> nn.Module:
        """Fill a model that is not sharded; all processes must call it."""
        for tensors in (dict(model.named_parameters()), dict(model.named_buffers())):
            for name, tensor in tensors.items():
                tensor.copy_(whole(self.state()[name]))
        return model
