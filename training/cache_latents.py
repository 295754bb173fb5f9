"""Encode a store with a finished tokenizer: deterministic latents for the next stages and for evaluation.

    python -m training.cache_latents --store STORE... --encoder E --tokenizer T --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from braing3n_core.checkpoint import require_parent
from braing3n_core.models.mae import Encoder, EncoderConfig
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig

from .latents import LatentSet, cache_tokens, project
from .parallel import pick_device
from .stage import command, load_model
from .store import Store


def main() -> None:
    """Write the latent set ``FOLDER`` (see :class:`training.latents.LatentSet`)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, type=Path, nargs="+", help="training stores, used as one")
    for name in ("encoder", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = pick_device(options.device)
    encoder, encoder_part = load_model(options.encoder, "encoder", EncoderConfig, Encoder, device)
    tokenizer, part = load_model(options.tokenizer, "tokenizer", TokenizerConfig, Tokenizer, device)
    require_parent(part, encoder_part)
    store = Store.open(*options.store)
    tokens = cache_tokens(store, encoder, options.out / "tokens.npy", device, encoder_part.id)
    LatentSet(project(tokens, tokenizer), store.records, part.id).save(options.out)


if __name__ == "__main__":
    command(main)
