"""What the decoder learns by whole volumes: a perfect one costs nothing, and only its own weights move."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from braing3n_core.models.patch_decoder import PatchDecoderConfig
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig
from training.similarity import structural_similarity
from training.train_decoder import VolumeError, free_decoder

PATCHES = PatchDecoderConfig(atoms=3, mask_atoms=2, width=8, depth=1, num_heads=2)
CONVOLUTIONS = {"widths": (8, 8, 8), "blocks": (1, 1, 1), "last_factor": 4, "num_heads": 2}


@pytest.fixture()
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TokenizerConfig(encoder_width=4, channels=4, patches=PATCHES))


def tokens_and_decoded(tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    tokens = torch.randn(1, 1200, 4)
    with torch.no_grad():
        return tokens, tokenizer.decode(tokenizer.project(tokens))


def test_a_decoder_that_is_right_costs_nothing_and_any_other_something(tokenizer: Tokenizer) -> None:
    tokens, decoded = tokens_and_decoded(tokenizer)
    loss = VolumeError(tokenizer, structure=1.0)
    assert loss(tokens, decoded).item() == pytest.approx(0, abs=1e-5)
    assert loss(tokens, decoded + 0.1 * torch.randn_like(decoded)).item() > 0.01


def test_the_weight_of_structure_is_what_similarity_lacks(tokenizer: Tokenizer) -> None:
    tokens, decoded = tokens_and_decoded(tokenizer)
    truth = decoded + 0.1 * torch.randn_like(decoded)
    plain, both = (VolumeError(tokenizer, structure)(tokens, truth).item() for structure in (0.0, 2.0))
    assert plain == pytest.approx(float((truth - decoded).square().mean()), rel=1e-4)
    alike = structural_similarity(decoded[:, 0], truth[:, 0], truth.max() - truth.min())
    assert both - plain == pytest.approx(2 * float(1 - alike), rel=1e-3)


@pytest.mark.parametrize("config", [{"patches": PATCHES}, CONVOLUTIONS], ids=["patches", "convolutions"])
def test_only_the_decoder_learns_and_no_dictionary(config: dict) -> None:
    tokenizer = Tokenizer(TokenizerConfig(encoder_width=4, channels=4, **config))
    free_decoder(tokenizer)
    learning = {name for name, p in tokenizer.named_parameters() if p.requires_grad}
    assert learning and all(name.startswith("decoder.") for name in learning)
    assert not any("to_voxels" in name for name in learning)


def test_similarity_of_a_batch_is_that_of_each_volume_and_can_be_learnt_by() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, 20, 24, 18), torch.rand(2, 20, 24, 18)
    a.requires_grad_(True)
    spans = torch.tensor([1.0, 2.0])
    both = structural_similarity(a, b, spans)
    for i in range(2):
        assert both[i].item() == pytest.approx(structural_similarity(a[i : i + 1], b[i : i + 1], spans[i]).item())
    both.sum().backward()
    step = torch.randn_like(a)
    with torch.no_grad():
        higher, lower = (structural_similarity(a + s * 1e-2 * step, b, spans).sum() for s in (1, -1))
        assert float((a.grad * step).sum()) == pytest.approx(float((higher - lower) / 2e-2), rel=0.02)
