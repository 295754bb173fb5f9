"""Projection, standardisation and the convolutional decoder."""

from __future__ import annotations

import torch

from braing3n_core.models.tokenizer import SpatialAttention, Tokenizer, TokenizerConfig

SMALL = TokenizerConfig(encoder_width=24, channels=4, widths=(16, 8), blocks=(1, 1), last_factor=8, num_heads=2)


def small_tokenizer() -> Tokenizer:
    torch.manual_seed(1)
    tokenizer = Tokenizer(SMALL).eval()
    tokenizer.latent_mean.copy_(torch.tensor([1.0, -2.0, 0.5, 0.0]))
    tokenizer.latent_std.copy_(torch.tensor([0.5, 2.0, 1.0, 3.0]))
    return tokenizer


def test_the_decoder_at_paper_size_has_the_papers_parameters_within_half_a_percent() -> None:
    with torch.device("meta"):
        tokenizer = Tokenizer(TokenizerConfig())
    count = sum(p.numel() for p in tokenizer.parameters())
    assert count == 43_637_672
    assert abs(count / 43.7e6 - 1) < 0.005


def test_tokens_become_latents_and_latents_become_the_model_grid() -> None:
    tokenizer = small_tokenizer()
    with torch.no_grad():
        latents = tokenizer.project(torch.randn(2, 1200, 24))
        assert latents.shape == (2, 1200, 4)
        assert tokenizer.decode(latents).shape == (2, 1, 160, 192, 160)


def test_latents_are_standardised_by_the_stored_statistics() -> None:
    tokenizer, tokens = small_tokenizer(), torch.randn(1, 1200, 24)
    with torch.no_grad():
        raw = tokenizer.projection(tokens)
        tokenizer.latent_mean.copy_(raw.mean((0, 1)))
        tokenizer.latent_std.copy_(raw.std((0, 1)))
        latents = tokenizer.project(tokens)
    torch.testing.assert_close(latents.mean((0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std((0, 1)), torch.ones(4), atol=1e-5, rtol=0)


def test_decoding_undoes_the_standardisation() -> None:
    tokenizer, raw = small_tokenizer(), torch.randn(1, 1200, 4)
    with torch.no_grad():
        standardised = (raw - tokenizer.latent_mean) / tokenizer.latent_std
        torch.testing.assert_close(tokenizer.decode(standardised), tokenizer.decoder(raw), atol=1e-5, rtol=1e-4)


def test_the_statistics_travel_with_the_weights() -> None:
    assert {"latent_mean", "latent_std"} <= set(small_tokenizer().state_dict())


def test_a_token_is_decoded_at_its_own_place() -> None:
    tokenizer, latents = small_tokenizer(), torch.zeros(1, 1200, 4)
    changed = latents.clone()
    changed[0, (2 * 12 + 9) * 10 + 5] = 5.0
    with torch.no_grad():
        difference = (tokenizer.decode(changed) - tokenizer.decode(latents)).abs()[0, 0]
    cubes = difference.reshape(10, 16, 12, 16, 10, 16).mean((1, 3, 5))
    assert tuple(torch.unravel_index(cubes.argmax(), cubes.shape)) == (2, 9, 5)


def test_attention_in_the_decoder_starts_as_the_identity() -> None:
    x = torch.randn(1, 16, 3, 4, 2)
    assert torch.equal(SpatialAttention(16, 2)(x), x)
