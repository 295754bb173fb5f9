"""The histogram of a patch, which the small encoder is given beside its voxels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from braing3n_core.models.layers import HISTOGRAM_EDGES, patch_histograms
from braing3n_core.models.mae import Encoder, EncoderConfig


def test_voxels_on_the_centres_are_counted_as_numpy_counts_them_and_shares_add_up_to_one() -> None:
    centres = np.linspace(*HISTOGRAM_EDGES, 16)
    which = np.random.default_rng(0).integers(0, 16, (2, 3, 512))
    shares = patch_histograms(torch.from_numpy(centres[which]).float(), 16)
    expected = [np.bincount(row, minlength=16) / 512 for row in which.reshape(-1, 512)]
    np.testing.assert_allclose(shares.reshape(-1, 16).numpy(), expected, atol=1e-4)
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 3))


def test_a_voxel_between_two_centres_counts_for_both_and_one_beyond_for_the_end() -> None:
    step = (HISTOGRAM_EDGES[1] - HISTOGRAM_EDGES[0]) / 3
    quarter = HISTOGRAM_EDGES[0] + 1.25 * step
    shares = patch_histograms(torch.tensor([[[quarter, -50.0, 50.0, quarter]]]), 4)
    assert shares[0, 0].tolist() == pytest.approx([0.25, 0.375, 0.125, 0.25], abs=1e-5)


def test_moving_the_voxels_inside_a_patch_changes_nothing() -> None:
    patch = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(1))
    moved = patch[..., torch.randperm(4096, generator=torch.Generator().manual_seed(2))]
    torch.testing.assert_close(patch_histograms(moved, 16), patch_histograms(patch, 16))


def test_the_papers_encoder_sees_voxels_alone_and_the_small_one_their_histogram_too() -> None:
    torch.manual_seed(0)
    config = EncoderConfig(width=48, depth=1, num_heads=4)
    plain, seeing = Encoder(config), Encoder(dataclasses.replace(config, histogram_bins=8))
    assert not any("histogram" in name for name in plain.state_dict())
    seeing.load_state_dict({**plain.state_dict(), "histogram_embed.weight": torch.zeros(48, 8)})
    patches = torch.randn(1, 1200, 4096)
    torch.testing.assert_close(seeing.embed(patches), plain.embed(patches))
    torch.nn.init.eye_(seeing.histogram_embed.weight)
    difference = seeing.embed(patches) - plain.embed(patches)
    torch.testing.assert_close(difference[..., :8], patch_histograms(patches, 8), atol=1e-5, rtol=1e-4)
