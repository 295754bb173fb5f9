"""The masked autoencoder against MONAI's, number by number, and at the paper's size."""

from __future__ import annotations

import pytest
import torch

from braing3n_core.models.layers import patchify
from braing3n_core.models.mae import Encoder, EncoderConfig, MAEConfig, MaskedAutoencoder, random_keep

WIDTH, DEPTH, DECODER_WIDTH, DECODER_DEPTH, HEADS = 48, 2, 32, 3, 4


def small_mae(*, qkv_bias: bool = True) -> MaskedAutoencoder:
    encoder = EncoderConfig(width=WIDTH, depth=DEPTH, num_heads=HEADS, qkv_bias=qkv_bias)
    return MaskedAutoencoder(MAEConfig(encoder, DECODER_WIDTH, DECODER_DEPTH, HEADS))


def monai_mae(*, qkv_bias: bool) -> torch.nn.Module:
    from monai.networks.nets import MaskedAutoEncoderViT

    return MaskedAutoEncoderViT(
        in_channels=1, img_size=(160, 192, 160), patch_size=16, hidden_size=WIDTH, mlp_dim=4 * WIDTH, num_layers=DEPTH,
        num_heads=HEADS, masking_ratio=0.7, decoder_hidden_size=DECODER_WIDTH, decoder_mlp_dim=4 * DECODER_WIDTH,
        decoder_num_layers=DECODER_DEPTH, decoder_num_heads=HEADS, proj_type="perceptron", pos_embed_type="learnable",
        decoder_pos_embed_type="learnable", qkv_bias=qkv_bias,
    )  # fmt: skip


def monai_name(name: str) -> str:
    """The name of our parameter in MONAI's network."""
    whole = {
        "encoder.cls": "cls_token",
        "encoder.positions": "patch_embedding.position_embeddings",
        "mask_token": "mask_tokens",
        "decoder_positions": "decoder_pos_embedding",
    }
    if name in whole:
        return whole[name]
    parts = {
        "encoder.patch_embed.": "patch_embedding.patch_embeddings.1.",
        "encoder.norm.": f"blocks.{DEPTH}.",
        "decoder_norm.": f"decoder_blocks.{DECODER_DEPTH}.",
        "encoder.blocks.": "blocks.",
        ".attn.out.": ".attn.out_proj.",
        ".mlp.0.": ".mlp.linear1.",
        ".mlp.2.": ".mlp.linear2.",
    }
    for ours, theirs in parts.items():
        name = name.replace(ours, theirs)
    return name


def randomised(mae: MaskedAutoencoder) -> MaskedAutoencoder:
    """Every parameter away from its start, so that no term of the sum is zero or one by chance."""
    with torch.no_grad():
        for parameter in mae.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return mae.eval()


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_it_computes_what_monais_masked_autoencoder_computes(qkv_bias: bool) -> None:
    torch.manual_seed(1)
    ours, theirs = randomised(small_mae(qkv_bias=qkv_bias)), monai_mae(qkv_bias=qkv_bias).eval()
    missing, unexpected = theirs.load_state_dict({monai_name(k): v for k, v in ours.state_dict().items()}, strict=False)
    assert not unexpected
    assert all(".norm_cross_attn." in name for name in missing)  # MONAI makes it and never uses it
    volume = torch.randn(2, 1, 160, 192, 160)
    with torch.no_grad():
        expected, mask = theirs(volume)
        keep = torch.stack([(row == 0).nonzero()[:, 0] for row in mask])
        predicted = ours(volume, keep)
    assert keep.shape == (2, 360)
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-5)


def test_the_parameter_counts_at_paper_size_are_exact() -> None:
    with torch.device("meta"):
        mae = MaskedAutoencoder(MAEConfig())
    assert sum(p.numel() for p in mae.encoder.parameters()) == 197_388_288
    assert sum(p.numel() for p in mae.parameters()) == 225_914_880


def test_the_encoder_strips_its_cls_token() -> None:
    torch.manual_seed(2)
    encoder = Encoder(EncoderConfig(width=WIDTH, depth=1, num_heads=HEADS)).eval()
    volume = torch.randn(1, 1, 160, 192, 160)
    with torch.no_grad():
        tokens, with_cls = encoder(volume), encoder.encode_patches(patchify(volume))
    assert tokens.shape == (1, 1200, WIDTH)
    assert with_cls.shape == (1, 1201, WIDTH)
    assert torch.equal(tokens, with_cls[:, 1:])


def test_keeping_every_patch_in_any_order_is_the_unmasked_encoder() -> None:
    torch.manual_seed(3)
    encoder = Encoder(EncoderConfig(width=WIDTH, depth=2, num_heads=HEADS)).eval()
    patches, order = patchify(torch.randn(1, 1, 160, 192, 160)), torch.randperm(1200)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            encoder.encode_patches(patches, order)[:, 1:], encoder.encode_patches(patches)[:, 1:][:, order[0]],
            rtol=1e-5, atol=1e-5,
        )  # fmt: skip


def test_masked_patches_do_not_reach_the_encoder() -> None:
    torch.manual_seed(4)
    encoder, keep = Encoder(EncoderConfig(width=WIDTH, depth=1, num_heads=HEADS)).eval(), random_keep(1, 0.7)
    patches = torch.randn(1, 1200, 4096)
    changed = torch.randn_like(patches).scatter(1, keep[..., None].expand(-1, -1, 4096), patches[:, keep[0]])
    with torch.no_grad():
        assert torch.equal(encoder.encode_patches(patches, keep), encoder.encode_patches(changed, keep))


def test_seventy_percent_of_the_patches_are_masked() -> None:
    keep = random_keep(3, 0.7, torch.Generator().manual_seed(5))
    assert keep.shape == (3, 360)
    assert all(len(set(row.tolist())) == 360 for row in keep)
    assert set(keep.flatten().tolist()) <= set(range(1200))
    assert torch.equal(keep, random_keep(3, 0.7, torch.Generator().manual_seed(5)))


def test_the_loss_counts_masked_patches_only() -> None:
    torch.manual_seed(6)
    mae, volume, keep = small_mae().eval(), torch.randn(2, 1, 160, 192, 160), random_keep(2, 0.7)
    with torch.no_grad():
        predicted, patches = mae(volume, keep), patchify(volume)
        errors = [(predicted[b] - patches[b]).square() for b in range(2)]
        masked = [[i for i in range(1200) if i not in set(keep[b].tolist())] for b in range(2)]
        expected = torch.cat([errors[b][masked[b]] for b in range(2)]).mean()
        torch.testing.assert_close(mae.loss(volume, keep), expected)
