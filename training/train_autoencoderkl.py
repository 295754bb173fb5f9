"""The baseline of appendix D: MONAI's AutoencoderKL from scratch, by the same loop, on the same volumes.

    python -m training.train_autoencoderkl training/configs/paper.toml --store STORE... --out RUN

Writes ``RUN/autoencoderkl`` (config.json and model.safetensors). Its latent has 40x48x40 positions of 8 channels,
614,400 numbers: the paper's 614K.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from braing3n_core.atlas import MODEL_SHAPE

from .draws import draws_of
from .loop import Batch, train
from .parallel import rank, share
from .planes import three_planes
from .stage import Settings, arguments, command, names_of
from .store import Store


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """Sizes of MONAI's network; kl_weight of its loss. # Unspecified in the paper: all but the 614K numbers."""

    channels: tuple[int, ...] = (64, 128, 256)
    latent_channels: int = 8
    num_res_blocks: int = 2
    norm_num_groups: int = 16
    kl_weight: float = 1e-6

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Channels and positions of a volume's latent: each level after the first halves the axes."""
        factor = 2 ** (len(self.channels) - 1)
        return (self.latent_channels, *(n // factor for n in MODEL_SHAPE))


class Baseline(nn.Module):
    """Voxel L1 plus the weighted divergence: (volume (B,1,X,Y,Z), noise of the latent's shape) -> scalar."""

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__()
        from monai.networks.nets import AutoencoderKL

        self.config = config
        self.network = AutoencoderKL(
            spatial_dims=3, in_channels=1, out_channels=1, channels=config.channels,
            latent_channels=config.latent_channels, num_res_blocks=(config.num_res_blocks,) * len(config.channels),
            norm_num_groups=config.norm_num_groups, attention_levels=(False,) * len(config.channels),
            with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
        )

    def forward(self, volume: Tensor, noise: Tensor) -> Tensor:
        mean, sigma = (x.float() for x in self.network.encode(volume))
        rebuilt = self.network.decode(mean + sigma * noise).float()
        divergence = 0.5 * (mean.square() + sigma.square() - 2 * sigma.clamp(min=1e-6).log() - 1).flatten(1).sum(1)
        return (rebuilt - volume).abs().mean() + self.config.kl_weight * divergence.mean()

    def reconstruct(self, volume: Tensor) -> Tensor:
        """The decoded mean, (B,1,X,Y,Z) float32."""
        rebuilt: Tensor = self.network.decode(self.network.encode(volume)[0])
        return rebuilt.float()


def main() -> None:
    """Train and write ``RUN/autoencoderkl``."""
    options = arguments(__doc__ or "", stores=True).parse_args()
    settings = Settings("autoencoderkl", options)
    store = Store.open(*options.store).for_training()
    config = settings.model("autoencoderkl", AutoencoderKLConfig)
    torch.manual_seed(settings.train.seed)
    device, shape, draws = settings.device, config.latent_shape, draws_of(store.records, settings.train)

    def draw(step: int, generator: torch.Generator) -> Batch:
        chosen = draws(step, generator)
        noise = torch.randn(len(chosen), *shape, generator=generator)[share()].to(device)
        mine = chosen[share()].tolist()
        return Batch((store.zscored(mine, device), noise), names_of(store.records, mine))

    def picture(objective: Any) -> tuple[str, np.ndarray]:
        volume = store.zscored([0], device)
        return "volume_reconstruction", three_planes(volume, objective.reconstruct(volume))

    run = settings.run(len(store), config, picture=picture)
    best = train(Baseline(config).to(device, memory_format=torch.channels_last_3d), draw, run)
    if rank() == 0:
        save(options.out / "autoencoderkl", best)


def save(folder: Path, baseline: Any) -> None:
    """Sizes and weights; it is a baseline for tables and no part of a checkpoint set."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(baseline.config), indent=2) + "\n")
    save_file({k: v.contiguous().cpu() for k, v in baseline.state_dict().items()}, folder / "model.safetensors")


def load(folder: Path) -> Baseline:
    """The inverse of :func:`save`."""
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    baseline = Baseline(AutoencoderKLConfig(**{**config, "channels": tuple(config["channels"])}))
    baseline.load_state_dict(load_file(folder / "model.safetensors"))
    return baseline.eval()


if __name__ == "__main__":
    command(main)
