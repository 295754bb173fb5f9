"""The networks of :mod:`benchmarks.peers`: BrainG3N's, and its peers' built from MONAI as their authors published them.

Sources of the peers' sizes: the MONAI bundle ``brain_image_synthesis_latent_diffusion_model`` (UK Biobank LDM: latents
3 x 20 x 28 x 20 for 160 x 224 x 160 voxels), BrLP (latents 3 x 16 x 20 x 16, decoded to 128 x 160 x 128), MAISI's
rectified flow (``config_maisi3d-rflow.json``; here on our own grid, latents 4 x 40 x 48 x 40: its default is larger,
and its half-precision norms, a saving on a GPU, are off), BrainIAC (ViT-B, patch 16, 96^3), BrainSegFounder
(SwinUNETR, feature size 48, 96^3), MedicalNet (ResNet-50; here on 96^3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from braing3n_core.loading import Runtime
    from braing3n_core.models.dit import DiTConfig

Call = Callable[[], Any]
MODEL_GRID = (160, 192, 160)


@dataclass(frozen=True)
class Workload:
    """build: the network. prepare: (network, device) -> the call that is timed. megavoxels: of its volume.

    part: of a checkpoint set, for BrainG3N's own, which run as they are loaded. careful: a peer with the same care,
    its weights converted once and channels last in memory.
    """

    build: Callable[[], nn.Module]
    prepare: Callable[[Any, str], Call]
    megavoxels: float = 0.0
    part: str = ""
    careful: bool = False

    def ready(self, network: nn.Module, runtime: Runtime) -> nn.Module:
        """A built network as it is timed: by ``runtime`` as BrainG3N loads it, or as its authors would call it."""
        if self.part:
            ready: nn.Module = runtime.prepare(self.part, network)
            return ready
        if self.careful:
            _take_care(network, runtime)
        return network.to(runtime.device).eval()


def _take_care(network: nn.Module, runtime: Runtime) -> None:
    """Give a peer what ours have: weights of products and convolutions in the precision of the run, channels last."""
    import torch

    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if runtime.precision == "bfloat16":
        for layer in network.modules():
            if isinstance(layer, (torch.nn.Linear, torch.nn.Conv3d)):
                layer.to(torch.bfloat16)


def rows(size: str) -> dict[str, Workload]:
    """By name: what is measured, with BrainG3N at ``size``."""
    return {**_ours(size), **_stages(size), **_peers(), **_encoders()}


def _mega(shape: tuple[int, ...]) -> float:
    count = 1
    for length in shape:
        count *= length
    return count / 1e6


def _ours(size: str) -> dict[str, Workload]:
    from braing3n_core.models.mae import Encoder, EncoderConfig
    from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig

    def encoder() -> nn.Module:
        return Encoder(_filled("encoder", EncoderConfig, size))

    def tokenizer() -> nn.Module:
        return Tokenizer(_filled("tokenizer", TokenizerConfig, size))

    voxels = _mega(MODEL_GRID)
    return {
        "ours: encode": Workload(encoder, _on_volume(MODEL_GRID), voxels, "encoder"),
        "ours: step": _pass(size, "dit", 1),
        "ours: guided step": _pass(size, "dit", 2),
        "ours: decode": Workload(tokenizer, _on_latents("decode"), voxels, "tokenizer"),
    }


def _stages(size: str) -> dict[str, Workload]:
    """What edits and forecasts are made of, and how a pass grows with the rows that share it."""
    rows = {
        "edit: FlowEdit step (3 rows)": _pass(size, "dit", 3),
        "forecast: step (8 samples)": _pass(size, "forecaster", 8),
    }
    return rows | {f"growth: pass of {n} rows": _pass(size, "dit", n) for n in (1, 2, 4, 8, 16)}


def _pass(size: str, kind: str, rows: int) -> Workload:
    from braing3n_core.models.conditions import ConditionBatch
    from braing3n_core.models.dit import DiT

    config = transformer_config(size, kind)

    def prepare(network: DiT, device: str) -> Call:
        import torch

        x = torch.randn(rows, 1200, config.channels, device=device)
        context = torch.randn_like(x) if config.context_channels else None
        conditions = ConditionBatch.from_rows(network.spec, [{} for _ in range(rows)]).to(device)
        return lambda: network(x, torch.full((rows,), 0.5, device=device), conditions, context)

    return Workload(lambda: DiT(config), prepare, part=kind)


def transformer_config(size: str, kind: str) -> DiTConfig:
    from braing3n_core.models.dit import DiTConfig

    config: DiTConfig = _filled(kind, DiTConfig, size)
    if size == "paper" and kind == "forecaster":
        return replace(config, context_channels=config.channels)
    return config


def _filled(kind: str, config: type, size: str) -> Any:
    """The paper's sizes, or those of the embedded default."""
    from braing3n_core.checkpoint import load_checkpoint, resolve

    return config() if size == "paper" else load_checkpoint(resolve("small") / kind, kind).fill(config)


def _on_volume(shape: tuple[int, ...]) -> Callable[[Any, str], Call]:
    def prepare(network: Any, device: str) -> Call:
        import torch

        volume = torch.randn(1, 1, *shape, device=device)
        return lambda: network(volume)

    return prepare


def _on_latents(method: str) -> Callable[[Any, str], Call]:
    def prepare(network: Any, device: str) -> Call:
        import torch

        latents = torch.randn(1, 1200, network.config.channels, device=device)
        return lambda: getattr(network, method)(latents)

    return prepare


def _peers() -> dict[str, Workload]:
    biobank, brlp = (160, 224, 160), (128, 160, 128)
    return {
        "UKB LDM: step": Workload(lambda: _unet(7, 4), _unet_call((7, 20, 28, 20), 4)),
        "UKB LDM: decode": Workload(_autoencoder, _decode_call((3, 20, 28, 20)), _mega(biobank)),
        "UKB LDM with care: step": Workload(lambda: _unet(7, 4), _unet_call((7, 20, 28, 20), 4), careful=True),
        "UKB LDM with care: decode": Workload(
            _autoencoder, _decode_call((3, 20, 28, 20)), _mega(biobank), careful=True
        ),
        "BrLP: step": Workload(lambda: _unet(3, 8), _unet_call((3, 16, 20, 16), 8)),
        "BrLP: decode": Workload(_autoencoder, _decode_call((3, 16, 20, 16)), _mega(brlp)),
        "MAISI rflow: step": Workload(_maisi_unet, _maisi_call((4, 40, 48, 40))),
        "MAISI rflow: decode": Workload(_maisi_autoencoder, _decode_call((4, 40, 48, 40)), _mega(MODEL_GRID)),
    }


def _unet(in_channels: int, conditions: int) -> nn.Module:
    from monai.networks.nets import DiffusionModelUNet

    return DiffusionModelUNet(
        3, in_channels, 3, num_res_blocks=2, channels=(256, 512, 768), attention_levels=(False, True, True),
        norm_num_groups=32, norm_eps=1e-6, resblock_updown=True, num_head_channels=(0, 512, 768),
        with_conditioning=True, cross_attention_dim=conditions,
    )


def _autoencoder() -> nn.Module:
    from monai.networks.nets import AutoencoderKL

    return AutoencoderKL(
        3, 1, 1, num_res_blocks=(2, 2, 2, 2), channels=(64, 128, 128, 128), attention_levels=(False,) * 4,
        latent_channels=3, norm_num_groups=32, with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
    )


def _maisi_unet() -> nn.Module:
    import torch
    from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

    network: nn.Module = DiffusionModelUNetMaisi(
        3, 4, 4, num_res_blocks=2, num_channels=(64, 128, 256, 512), attention_levels=(False, False, True, True),
        num_head_channels=(0, 0, 32, 32), resblock_updown=True, include_fc=True, num_class_embeds=128,
        include_spacing_input=True, use_flash_attention=torch.cuda.is_available(),  # MONAI refuses it without a GPU
    )
    return network


def _maisi_autoencoder() -> nn.Module:
    from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

    network: nn.Module = AutoencoderKlMaisi(
        3, 1, 1, (2, 2, 2), (64, 128, 256), (False,) * 3, latent_channels=4, num_splits=4, dim_split=1,
    )
    return network


def _maisi_call(shape: tuple[int, ...]) -> Callable[[Any, str], Call]:
    def prepare(network: Any, device: str) -> Call:
        import torch

        x, spacing = torch.randn(1, *shape, device=device), torch.ones(1, 3, device=device)
        word = torch.tensor([9], device=device)  # the index of T1 among its contrasts; any costs the same
        time = torch.full((1,), 500, device=device)
        return lambda: network(x, timesteps=time, class_labels=word, spacing_tensor=spacing)

    return prepare


def _unet_call(shape: tuple[int, ...], conditions: int) -> Callable[[Any, str], Call]:
    def prepare(network: Any, device: str) -> Call:
        import torch

        x, context = torch.randn(1, *shape, device=device), torch.randn(1, 1, conditions, device=device)
        return lambda: network(x, timesteps=torch.full((1,), 500, device=device), context=context)

    return prepare


def _decode_call(shape: tuple[int, ...]) -> Callable[[Any, str], Call]:
    def prepare(network: Any, device: str) -> Call:
        import torch

        latents = torch.randn(1, *shape, device=device)
        return lambda: network.decode_stage_2_outputs(latents)

    return prepare


def _encoders() -> dict[str, Workload]:
    cube = (96, 96, 96)
    return {
        name: Workload(build, _on_volume(cube), _mega(cube))
        for name, build in (
            ("BrainIAC: encode (ViT-B, 96^3)", _vit), ("BrainSegFounder: encode (Swin, 96^3)", _swin),
            ("MedicalNet: encode (R-50, 96^3)", _resnet),
        )
    }


def _vit() -> nn.Module:
    from monai.networks.nets import ViT

    return ViT(1, 96, 16, hidden_size=768, mlp_dim=3072, num_layers=12, num_heads=12)


def _swin() -> nn.Module:
    from monai.networks.nets import SwinUNETR

    network: nn.Module = SwinUNETR(1, 1, feature_size=48).swinViT
    return network


def _resnet() -> nn.Module:
    from monai.networks.nets import resnet50

    network: nn.Module = resnet50(spatial_dims=3, n_input_channels=1, num_classes=1)
    return network
