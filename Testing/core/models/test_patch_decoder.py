"""Overlapping patches: cut, faded together without seams, and a decoder that knows the place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from braing3n_core.models.layers import patchify
from braing3n_core.models.patch_decoder import (
    PatchDecoder,
    PatchDecoderConfig,
    cut_out,
    fade_together,
    overlapping_patches,
)
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig

SMALL = PatchDecoderConfig(atoms=5, mask_atoms=3, width=16, depth=1, num_heads=2)


def corner_step(overlap: int) -> Tensor:
    """Patches of zeros but for those of the half x >= 80, which are ones, faded together: (160,192,160)."""
    patches = torch.zeros(1, 10, 120, (16 + 2 * overlap) ** 3)
    patches[:, 5:] = 1
    return fade_together(patches.flatten(1, 2), overlap)[0, 0]


@pytest.mark.parametrize("overlap", [0, 1, 2, 8])
def test_a_volume_is_its_overlapping_patches_faded_together(overlap: int) -> None:
    volume = torch.randn(2, 1, 160, 192, 160)
    torch.testing.assert_close(fade_together(overlapping_patches(volume, overlap), overlap), volume)


def test_patches_that_do_not_overlap_are_the_tokens_own() -> None:
    volume = torch.randn(1, 1, 160, 192, 160)
    torch.testing.assert_close(overlapping_patches(volume, 0), patchify(volume))


def test_beyond_the_volume_its_background_goes_on() -> None:
    volume = torch.full((1, 1, 160, 192, 160), 3.0)
    volume[0, 0, 80] = -1.0
    assert float(overlapping_patches(volume, 2)[0, 0].reshape(20, 20, 20)[0].max()) == -1.0


def test_neighbours_that_disagree_are_joined_by_a_ramp_across_the_overlap() -> None:
    profile = corner_step(2)[74:86, 96, 80]
    torch.testing.assert_close(profile, torch.tensor([0.0] * 4 + [0.125, 0.375, 0.625, 0.875] + [1.0] * 4))


def test_without_overlap_the_same_neighbours_show_a_step() -> None:
    assert float(corner_step(0).diff(dim=0).max()) == 1.0


def test_a_z_scored_brain_is_cut_out_with_the_background_that_its_mean_of_zero_asks_for() -> None:
    brain = torch.zeros(1, 1, 160, 192, 160)
    brain[:, :, 40:120, 40:150, 40:120] = 1
    volume = brain * (50 + 10 * torch.randn(brain.shape))
    volume = (volume - volume.mean()) / volume.std()
    tissue = torch.where(brain > 0, volume, 7.0)
    torch.testing.assert_close(cut_out(tissue, brain), volume, atol=1e-4, rtol=0)


def test_a_brain_that_fills_the_grid_is_cut_out_too() -> None:
    everywhere = torch.ones(1, 1, 160, 192, 160)
    assert torch.isfinite(cut_out(everywhere * 2, everywhere)).all()


def test_the_decoder_starts_at_its_linear_part() -> None:
    torch.manual_seed(0)
    decoder, latents = PatchDecoder(4, SMALL), torch.randn(1, 1200, 4)
    with torch.no_grad():
        doubled, single, nothing = (decoder.weights(latents * factor) for factor in (2, 1, 0))
    torch.testing.assert_close(doubled - nothing, 2 * (single - nothing))


def test_the_decoder_knows_the_place() -> None:
    torch.manual_seed(0)
    decoder = PatchDecoder(4, SMALL)
    torch.nn.init.normal_(decoder.position)
    torch.nn.init.normal_(decoder.correction.weight)
    with torch.no_grad():
        weights = decoder.weights(torch.ones(1, 1200, 4)).reshape(10, 12, 10, 8)
    assert float((weights[4, 5, 5] - weights[5, 6, 5]).abs().max()) > 0.1


def test_a_tokenizer_with_a_dictionary_decodes_by_patches_and_without_one_by_convolutions() -> None:
    by_patches = Tokenizer(TokenizerConfig(encoder_width=8, channels=4, patches=SMALL))
    assert by_patches.decode(torch.zeros(1, 1200, 4)).shape == (1, 1, 160, 192, 160)
    by_convolutions = Tokenizer(TokenizerConfig(encoder_width=8, widths=(8, 8), blocks=(1, 1)))
    assert not isinstance(by_convolutions.decoder, PatchDecoder)
