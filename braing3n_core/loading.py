"""The parts of a checkpoint set, opened when they are first needed, on the chosen device and with the reason why.

Where the processor multiplies bfloat16 the transformers and the decoder run under autocast, and the weights of their
linear layers are converted once; all others stay float32. The closed-form prior of the DiT stays float32 always:
bfloat16 would round away the small change that an edit is.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import KINDS, Checkpoint, load_checkpoint, require_parent, resolve
from .errors import CheckpointError, DependencyError, RequestError
from .schema import nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .models.conditions import ConditionBatch
    from .models.dit import DiT
    from .models.mae import Encoder
    from .models.tokenizer import Tokenizer
    from .probes import ProbePanel

DEVICES: tuple[str, ...] = ("auto", "cpu", "cuda")
PRECISIONS: tuple[str, ...] = ("auto", "float32", "bfloat16")
CACHED_WIDTH = 1152
"""On a CPU a transformer takes a row at a time from this width on: what a block passes on then stays in its caches."""


@dataclass(frozen=True)
class Runtime:
    """Where and how the networks run. device: ``cpu`` or ``cuda``. precision: ``float32`` or ``bfloat16``."""

    device: str
    device_why: str
    precision: str
    precision_why: str

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which a network is called."""
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    def prepare(self, kind: str, network: Any) -> Any:
        """The network of a part (one of ``KINDS``) as it is run: on the device, for inference, in this precision."""
        import torch

        network = network.to(self.device).eval().requires_grad_(False)
        half = self.precision == "bfloat16"
        if kind == "tokenizer":
            network.decoder.to(memory_format=torch.channels_last_3d)
            _keep_float32(network.decoder.to_voxels, self.device)
            if half:
                _in_bfloat16(network.decoder, self.device, but=network.decoder.to_voxels)
        elif half:
            _in_bfloat16(network, self.device)
        if kind in ("dit", "forecaster"):
            if half:
                network.network = self.autocast()(network.network)  # type: ignore[operator]
            if self.device == "cpu":
                network.network = _few_rows_at_once(network.network, max(1, CACHED_WIDTH // network.config.width))
        return network


def choose_runtime(device: str = "auto", precision: str = "auto") -> Runtime:
    """Decide device and precision. Raises RequestError for an unknown word or a device that is not there."""
    check_words(device, precision)
    try:
        import torch
    except ImportError as error:
        raise DependencyError(
            "dependency.torch", f"The models need PyTorch: {error}.", "pip install 'braing3n[torch]'"
        ) from error
    name, why = _device(device, torch.cuda.is_available())
    if precision != "auto":
        return Runtime(name, why, precision, "asked for")
    if name == "cuda":
        return Runtime(name, why, "bfloat16", "CUDA device")
    if has_bfloat16_cpu():
        return Runtime(name, why, "bfloat16", "the processor multiplies bfloat16 (AVX512-BF16 or AMX)")
    return Runtime(name, why, "float32", "the processor has no fast bfloat16")


def check_words(device: str, precision: str = "auto") -> None:
    """Refuse unknown words without importing torch."""
    for what, word, known in (("device", device, DEVICES), ("precision", precision, PRECISIONS)):
        if word not in known:
            raise RequestError(
                f"request.{what}", f"Unknown {what} {word!r}.", f"{nearest(word, known)}Known: {', '.join(known)}."
            )


def _device(device: str, has_cuda: bool) -> tuple[str, str]:
    if device == "cuda" and not has_cuda:
        raise RequestError("device.cuda", "There is no usable CUDA device.", "Use --device cpu, or auto.")
    if device != "auto":
        return device, "asked for"
    return ("cuda", "a CUDA device is there") if has_cuda else ("cpu", "no CUDA device")


def has_bfloat16_cpu() -> bool:
    """Whether the processor multiplies bfloat16 (AVX512-BF16 or AMX). False where the system does not tell."""
    if platform.system() != "Linux":
        return False
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(
        word in ("avx512_bf16", "amx_bf16")
        for line in flags.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("flags")
        for word in line.split()
    )


class Parts:
    """Encoder, tokenizer, dit, forecaster and probes of one checkpoint set. Each is loaded on first use."""

    def __init__(self, checkpoint: str | Path = "small", device: str = "auto", precision: str = "auto") -> None:
        check_words(device, precision)
        self.name = str(checkpoint)
        self._wanted = (device, precision)
        self._opened: dict[str, Checkpoint] = {}

    @cached_property
    def folder(self) -> Path:
        return resolve(self.name)

    @cached_property
    def runtime(self) -> Runtime:
        return choose_runtime(*self._wanted)

    def has(self, kind: str) -> bool:
        """Whether the set has this part at all."""
        return (self.folder / kind).is_dir()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The parts that the set has."""
        return tuple(kind for kind in KINDS if self.has(kind))

    def checkpoint(self, kind: str) -> Checkpoint:
        """The verified part without its weights; its parents are checked. Raises CheckpointError."""
        if kind not in self._opened:
            if not self.has(kind):
                raise CheckpointError(
                    "checkpoint.part", f"The checkpoint {self.folder} has no part {kind!r}.",
                    "Choose a checkpoint that has it; `capabilities` lists the verbs of each.",
                )
            self._opened[kind] = opened = load_checkpoint(self.folder / kind, kind)
            for parent in opened.parents:
                if self.has(parent):
                    require_parent(opened, self.checkpoint(parent))
        return self._opened[kind]

    def require(self, kinds: Sequence[str]) -> None:
        """Raise now, not after minutes of preprocessing, when a part or the device is not there."""
        for kind in kinds:
            self.checkpoint(kind)
        if kinds:
            _ = self.runtime

    @cached_property
    def encoder(self) -> Encoder:
        from .models.mae import Encoder, EncoderConfig

        return self._network("encoder", EncoderConfig, Encoder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        from .models.tokenizer import Tokenizer, TokenizerConfig

        return self._network("tokenizer", TokenizerConfig, Tokenizer)

    @cached_property
    def dit(self) -> DiT:
        return self._transformer("dit")

    @cached_property
    def forecaster(self) -> DiT:
        return self._transformer("forecaster")

    @cached_property
    def probes(self) -> ProbePanel:
        from .probes import ProbePanel

        opened = self.checkpoint("probes")
        return ProbePanel.from_arrays(opened.config, opened.tensors("np", dtype=None))

    def _transformer(self, kind: str) -> DiT:
        from .models.dit import DiT, DiTConfig

        return self._network(kind, DiTConfig, DiT)

    def _network(self, kind: str, config: type, network: type) -> Any:
        opened = self.checkpoint(kind)
        model = network(opened.fill(config))
        try:
            model.load_state_dict(opened.tensors("pt"), strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                "checkpoint.weights", f"The weights of {opened.folder} do not fit its config: {error}.",
                "Fetch it again.",
            ) from error
        return self.runtime.prepare(kind, model)


def _in_bfloat16(network: nn.Module, device: str, but: nn.Module | None = None) -> None:
    """Convert the weights of linear layers once, as autocast would at every call; those inside ``but`` stay float32.

    On a CPU that multiplies bfloat16 they are packed too (``models/packed.py``).
    """
    import torch

    from .models.packed import can_pack, pack

    if device == "cpu" and can_pack():
        pack(network, but)
        return
    kept = set() if but is None else set(but.modules())
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear) and layer not in kept:
            layer.to(torch.bfloat16)


def _few_rows_at_once(network: Callable[..., Tensor], most: int) -> Callable[..., Tensor]:
    """A transformer that takes so many rows of a batch at a time: a CPU gains nothing from more."""
    import torch

    def call(x: Tensor, t: Tensor, conditions: ConditionBatch, context: Tensor | None = None) -> Tensor:
        parts = [slice(start, start + most) for start in range(0, len(x), most)]
        rows = [network(x[p], t[p], conditions.rows(p), None if context is None else context[p]) for p in parts]
        return torch.cat(rows)

    return call


def _keep_float32(layer: nn.Module, device: str) -> None:
    """Run one layer in float32 inside autocast: its rounding would be a grain in every difference map."""
    import torch

    plain = layer.forward

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(device, enabled=False):
            y: Tensor = plain(x.float())
            return y

    layer.forward = forward
