"""Published frozen encoders beside ours: their architectures from MONAI, with the weight files that the user has.

No weights of others are part of this repository. What is read is said by file name and hash, never by whose it is:
a file of random numbers loads as well as the published one. The published files are

    brainiac         BrainIAC.ckpt of AIM-KannLab/BrainIAC: ViT-B, patches of 16, 96^3, trained by SimCLR
    brainsegfounder  64-gpu-model_bestValRMSE.pt of lab-smile/BrainSegFounder: SwinViT of 48 channels, 96^3
    medicalnet       resnet_50_23dataset.pth of Tencent/MedicalNet: ResNet-50

Legend: B batch, F features.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from braing3n_core.errors import CheckpointError, RequestError
from braing3n_core.schema import nearest

if TYPE_CHECKING:
    from torch import nn

Weights = dict[str, Tensor]
UNUSED = ("cross_attn", "relative_position_index")
"""Parts of a name of tensors that a file may lack: newer MONAI has them, and they are unused or no weights."""


@dataclass(frozen=True)
class Kind:
    """title: of a column. prefixes: of the encoder's tensors in the published file, the first that fits. build: from
    the encoder's tensors, since they tell how many channels the network has. read: (network, cubes) -> (B,F)."""

    title: str
    prefixes: tuple[str, ...]
    build: Callable[[Weights], nn.Module]
    read: Callable[[Any, Tensor], Tensor]


class PublicEncoder:
    """name: of a column; source: which file it was; of: one z-scored volume (X,Y,Z) -> features (F,)."""

    def __init__(self, kind: str, path: Path, device: str = "cpu") -> None:
        if kind not in KINDS:
            raise RequestError(
                "evaluate.encoder", f"There is no published encoder {kind!r}.",
                f"{nearest(kind, tuple(KINDS))}Known: {', '.join(KINDS)}.",
            )
        self.kind, self.device = KINDS[kind], device
        weights = _of_encoder(read_weights(path), self.kind, path)
        self.network = self.kind.build(weights)
        _load(self.network, weights, path)
        self.network = self.network.to(device).eval().requires_grad_(False)
        self.name = self.kind.title
        self.source = f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"

    @torch.inference_mode()
    def of(self, volume: np.ndarray) -> np.ndarray:
        features = self.kind.read(self.network, cube(volume)[None, None].to(self.device))
        return features[0].float().cpu().numpy()


def cube(volume: np.ndarray) -> Tensor:
    """A z-scored volume (160,192,160) at 2 mm in a cube of 96^3: standardised in the brain, 0 around it."""
    x = torch.from_numpy(np.ascontiguousarray(volume)).float()
    brain = x > x.min() + 1e-4
    inside = x[brain] if brain.any() else x.flatten()
    x = torch.where(brain, (x - inside.mean()) / inside.std().clamp(min=1e-6), torch.zeros(()))
    sides = [(192 - n) // 2 for n in reversed(x.shape) for _ in (0, 1)]
    return F.avg_pool3d(F.pad(x, sides)[None], 2)[0]


def read_weights(path: Path) -> Weights:
    """The tensors of a ``.safetensors`` file or of one of ``torch.save``, read without running code.

    Raises CheckpointError for a file that is neither.
    """
    if not path.is_file():
        raise CheckpointError("encoder.missing", f"There is no file {path}.", "Give the path of the weights.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        raise CheckpointError(
            "encoder.unreadable", f"{path} cannot be read without running code: {str(error).splitlines()[0]}",
            "Save its state_dict alone, as .safetensors, and give that.",
        ) from error
    found = found.get("state_dict", found.get("model", found)) if isinstance(found, dict) else {}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _of_encoder(found: Weights, kind: Kind, path: Path) -> Weights:
    """The tensors below the first prefix that any has, without it."""
    for prefix in kind.prefixes:
        below = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        if below:
            return {k.replace("mlp.fc", "mlp.linear"): v for k, v in below.items()}
    raise CheckpointError(
        "encoder.names",
        f"{path} has no tensor of {kind.title}: its first are {', '.join(sorted(found)[:3]) or 'none'}.",
        f"Names must begin with {' or '.join(repr(p) for p in kind.prefixes)}.",
    )


def _load(network: nn.Module, weights: Weights, path: Path) -> None:
    """Raises CheckpointError unless every weight of the network was there in its shape."""
    wanted = network.state_dict()
    lacking = [k for k in wanted if k not in weights and not any(part in k for part in UNUSED)]
    wrong = [k for k in wanted if k in weights and weights[k].shape != wanted[k].shape]
    if lacking or wrong:
        name = (lacking or wrong)[0]
        said = "lacks" if lacking else f"has the shape {tuple(weights[name].shape)} for"
        raise CheckpointError(
            "encoder.weights", f"{path} {said} {name} {tuple(wanted[name].shape)}, and does not fit in "
            f"{len(lacking) + len(wrong)} tensors.", "Give the published file.",
        )
    network.load_state_dict({k: weights[k] for k in wanted if k in weights}, strict=False)


def _vit(weights: Weights) -> nn.Module:
    from monai.networks.nets import ViT

    return ViT(1, 96, 16, hidden_size=768, mlp_dim=3072, num_layers=12, num_heads=12)


def _swin(weights: Weights) -> nn.Module:
    from monai.networks.nets import SwinUNETR

    channels = weights["patch_embed.proj.weight"].shape[1] if "patch_embed.proj.weight" in weights else 1
    network: nn.Module = SwinUNETR(channels, 1, feature_size=48).swinViT
    return network


def _resnet(weights: Weights) -> nn.Module:
    from monai.networks.nets import resnet50

    network: nn.Module = resnet50(
        spatial_dims=3, n_input_channels=1, feed_forward=False, shortcut_type="B", bias_downsample=False
    )
    return network


def _swin_features(network: Any, x: Tensor) -> Tensor:
    """The mean of the last stage; a network of several contrasts sees this one in each of its channels."""
    channels = network.patch_embed.proj.in_channels
    features: Tensor = network(x.expand(-1, channels, -1, -1, -1))[4]
    return features.mean((2, 3, 4))


KINDS: dict[str, Kind] = {
    # The first token is what BrainIAC's authors read, although this ViT has no token of its own for the class.
    "brainiac": Kind("BrainIAC", ("backbone.backbone.", "backbone.", ""), _vit, lambda net, x: net(x)[0][:, 0]),
    "brainsegfounder": Kind("BrainSegFounder", ("module.swinViT.", "swinViT."), _swin, _swin_features),
    "medicalnet": Kind("MedicalNet", ("module.", ""), _resnet, lambda net, x: net(x)),
}
