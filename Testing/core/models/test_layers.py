"""Patches, positions and attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from braing3n_core.models.layers import (
    GRID,
    NUM_TOKENS,
    PATCH,
    AdaLNBlock,
    Attention,
    RMSNorm,
    ScalarEmbedding,
    adaptive_norm,
    patchify,
    pixel_shuffle_3d,
    sincos_positions,
    unpatchify,
)


def test_the_model_grid_has_1200_patches_of_16_voxels() -> None:
    assert GRID == (10, 12, 10)
    assert NUM_TOKENS == 1200
    assert tuple(g * PATCH for g in GRID) == (160, 192, 160)


def test_unpatchify_undoes_patchify() -> None:
    volume = torch.randn(2, 1, 160, 192, 160)
    assert torch.equal(unpatchify(patchify(volume)), volume)


@pytest.mark.parametrize("corner", [(0, 0, 0), (3, 7, 9), (9, 11, 0)])
def test_a_token_is_the_cube_at_its_place_in_c_order(corner: tuple[int, int, int]) -> None:
    volume = torch.arange(160 * 192 * 160, dtype=torch.float32).reshape(1, 1, 160, 192, 160)
    i, j, k = corner
    cube = volume[0, 0, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16, 16 * k : 16 * k + 16]
    assert torch.equal(patchify(volume)[0, (i * 12 + j) * 10 + k], cube.reshape(-1))


def test_a_linear_layer_on_patches_is_a_strided_convolution() -> None:
    volume, weight = torch.randn(1, 1, 32, 48, 16), torch.randn(5, 16**3)
    convolved = F.conv3d(volume, weight.reshape(5, 1, 16, 16, 16), stride=16).flatten(2).transpose(1, 2)
    torch.testing.assert_close(F.linear(patchify(volume), weight), convolved, rtol=1e-4, atol=1e-3)


def test_pixel_shuffle_puts_channel_groups_into_neighbouring_voxels() -> None:
    x = torch.arange(8.0).reshape(1, 8, 1, 1, 1)
    assert torch.equal(pixel_shuffle_3d(x, 2), torch.arange(8.0).reshape(1, 1, 2, 2, 2))


def test_every_position_has_its_own_code() -> None:
    code = sincos_positions(GRID, 48)[0]
    distances = torch.cdist(code, code) + torch.eye(NUM_TOKENS)
    assert code.shape == (NUM_TOKENS, 48)
    assert distances.min() > 1e-3


def test_attention_does_not_care_for_the_order_of_tokens() -> None:
    attention, x, order = Attention(32, 4, qk_norm=True), torch.randn(2, 9, 32), torch.randperm(9)
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order], rtol=1e-5, atol=1e-6)


def test_an_adaln_zero_block_starts_as_the_identity() -> None:
    x = torch.randn(2, 9, 32)
    assert torch.equal(AdaLNBlock(32, 4)(x, torch.randn(2, 32)), x)


def test_near_numbers_have_near_embeddings_before_any_training() -> None:
    torch.manual_seed(0)
    embed = ScalarEmbedding(192, period=2.0)
    times = torch.linspace(0, 1, 101)
    with torch.no_grad():
        rows = embed(times)
    hundredth = (rows[1:] - rows[:-1]).norm(dim=1).max()
    assert hundredth < 0.15 * (rows[-1] - rows[0]).norm()
    assert (torch.cdist(rows, rows) + 9 * torch.eye(101)).min() > 1e-3  # and no two are the same


def test_even_waves_are_the_plain_sines_and_cosines_of_older_checkpoints() -> None:
    embed, value = ScalarEmbedding(32, waves="even"), torch.tensor([0.3, 0.7])
    angle = value[:, None] * embed.frequencies
    torch.testing.assert_close(embed(value), embed.mlp(torch.cat([angle.sin(), angle.cos()], dim=1)))
    with pytest.raises(ValueError, match="falling, even, got 'odd'"):
        ScalarEmbedding(32, waves="odd")


def test_a_scalar_embedding_tells_close_numbers_apart() -> None:
    embed = ScalarEmbedding(32)
    near = embed(torch.tensor([0.5, 0.51]))
    assert (near[0] - near[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_rms_normalisation_is_the_one_of_pytorch(dtype: torch.dtype, close: float) -> None:
    torch.manual_seed(0)
    norm = RMSNorm(72)
    torch.nn.init.normal_(norm.weight, 1.0, 0.3)
    x = torch.cat([5 * torch.randn(40, 72), torch.zeros(1, 72), 1e-4 * torch.randn(2, 72)])
    expected = F.rms_norm(x, (72,), norm.weight, 1e-6)
    found = norm(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=close, atol=close)


def test_rms_normalisation_has_the_gradients_of_pytorchs() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(24)
    x, weigh = torch.randn(7, 24, requires_grad=True), torch.randn(7, 24)
    expected = torch.autograd.grad((F.rms_norm(x, (24,), norm.weight, 1e-6) * weigh).sum(), [x, norm.weight])
    found = torch.autograd.grad((norm(x) * weigh).sum(), [x, norm.weight])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_norm_with_a_shift_and_a_scale_is_the_same_for_a_row_and_for_a_batch() -> None:
    torch.manual_seed(0)
    x, shift, scale = torch.randn(3, 50, 24), torch.randn(3, 1, 24), torch.randn(3, 1, 24)
    batch = adaptive_norm(x, shift, scale)
    torch.testing.assert_close(batch, F.layer_norm(x, (24,), eps=1e-6) * (1 + scale) + shift)
    rows = [adaptive_norm(x[i : i + 1], shift[i : i + 1], scale[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(rows), batch)
