"""Packed linear layers beside PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from braing3n_core.models.layers import MLP, Attention
from braing3n_core.models.packed import PackedLinear, can_pack, pack

pytestmark = pytest.mark.skipif(not can_pack(), reason="this processor, or this PyTorch, has no packed bfloat16")


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 48), (2, 7, 48), (1, 1200, 48)])
def test_a_packed_layer_multiplies_as_a_linear_layer_in_bfloat16(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias).requires_grad_(False)
    x = torch.randn(shape)
    plain = F.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16() if bias else None)
    packed = PackedLinear(layer)(x)
    assert packed.dtype == torch.bfloat16 and packed.shape == (*shape[:-1], 80)
    assert distance(packed, layer(x)) < 1.2 * distance(plain, layer(x)) < 0.01


def test_a_gelu_in_the_same_pass_is_as_exact_as_one_after_it() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(48, 80).requires_grad_(False), torch.randn(200, 48)
    plain = F.gelu(F.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16()))
    exact = F.gelu(layer(x))
    assert distance(PackedLinear(layer, gelu=True)(x), exact) < 1.2 * distance(plain, exact) < 0.02


def test_packing_a_network_leaves_out_what_it_is_told_to_and_changes_only_digits() -> None:
    torch.manual_seed(0)
    network = nn.ModuleDict({"attn": Attention(48, 4, qk_norm=True), "mlp": MLP(48, 192), "kept": nn.Linear(48, 48)})
    network.requires_grad_(False)
    x = torch.randn(1, 1200, 48)

    def call() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network["kept"](network["mlp"](network["attn"](x)))

    with torch.autocast("cpu", enabled=False):
        exact = network["kept"](network["mlp"](network["attn"](x)))
    by_autocast = distance(call(), exact)
    pack(network, but=network["kept"])
    assert [type(layer) for layer in network["mlp"]] == [PackedLinear, nn.Identity, PackedLinear]
    assert type(network["attn"].qkv) is type(network["attn"].out) is PackedLinear
    assert type(network["kept"]) is nn.Linear
    assert 0 < distance(call(), exact) < 1.2 * by_autocast


@pytest.mark.parametrize("autocast", [False, True])
def test_whether_layers_can_be_packed_is_asked_anywhere_and_draws_no_random_number(autocast: bool) -> None:
    state = torch.get_rng_state()
    can_pack.cache_clear()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert can_pack()
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_that_are_packed_are_not_saved_a_second_time() -> None:
    assert not PackedLinear(nn.Linear(8, 8)).state_dict()
