"""Noise with a colour (ADR 25)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dctn

from braing3n_core.models.layers import GRID, NUM_TOKENS
from braing3n_core.models.noise import BANDS, NoiseColour, bands, to_frequencies


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_the_transform_is_scipys_and_comes_back() -> None:
    x = normal(2, NUM_TOKENS, 3)
    expected = dctn(x.numpy().reshape(2, *GRID, 3), axes=(1, 2, 3), norm="ortho").reshape(x.shape)
    np.testing.assert_allclose(to_frequencies(x), expected, atol=1e-5)
    torch.testing.assert_close(to_frequencies(to_frequencies(x), back=True), x, rtol=0, atol=1e-5)


def test_a_colour_that_was_not_fitted_is_white() -> None:
    white = normal(1, NUM_TOKENS, 4)
    torch.testing.assert_close(NoiseColour(("T1", "T2"), 4)(white, ["T2"]), white, rtol=0, atol=1e-5)


def test_coloured_noise_has_the_covariance_of_its_band_and_of_its_contrast_alone() -> None:
    colour = NoiseColour(("T1", "T2"), 2)
    colour.roots[0, 3] = torch.tensor([[2.0, 1.0], [1.0, 1.0]])
    white = normal(200, NUM_TOKENS, 2)
    found = to_frequencies(colour(white, ["T1"] * len(white)))
    assert sorted(set(bands().tolist())) == list(range(BANDS))
    for band, expected in ((3, [[5.0, 3.0], [3.0, 2.0]]), (4, [[1.0, 0.0], [0.0, 1.0]])):
        covariance = torch.cov(found[:, bands() == band].flatten(0, 1).T)
        torch.testing.assert_close(covariance, torch.tensor(expected), rtol=0.02, atol=0.02)
    mixed = colour(white[:2], ["T1", "T2"])
    torch.testing.assert_close(to_frequencies(mixed[0]), found[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed[1], white[1], rtol=0, atol=1e-5)
