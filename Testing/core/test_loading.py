"""How networks are made ready for a device and a precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from braing3n_core.loading import CACHED_WIDTH, Parts, Runtime, choose_runtime
from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT, DiTConfig
from braing3n_core.models.packed import PackedLinear
from braing3n_core.models.tokenizer import Tokenizer, TokenizerConfig

HALF = choose_runtime("cpu", "bfloat16")


def types(network: nn.Module) -> set[torch.dtype]:
    return {value.dtype for value in tensors(network)}


def linear(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, (nn.Linear, PackedLinear))]


def tensors(network: nn.Module) -> list[torch.Tensor]:
    return [value for value in (*network.parameters(), *network.buffers()) if value.is_floating_point()]


def test_weights_that_are_converted_once_are_as_exact_as_those_that_autocast_converts_at_every_call() -> None:
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=48, depth=2, num_heads=2)).eval().requires_grad_(False)
    for weights in network.parameters():  # the last layer and the gates start at zero, which would hide everything
        nn.init.normal_(weights, std=0.2)
    x, t = torch.randn(2, 1200, 32), torch.tensor([0.3, 0.3])
    conditions = ConditionBatch.from_rows(network.spec, [{"disease": "AD", "modality": "T1"}, {"modality": "T2"}])
    exact = network(x, t, conditions)
    with HALF.autocast():
        each_call = network(x, t, conditions)
    ready = HALF.prepare("dit", network)
    assert all(types(layer) == {torch.bfloat16} for layer in linear(ready))
    once = ready(x, t, conditions)
    error = (each_call - exact).norm()
    assert float(error / exact.norm()) > 1e-3  # bfloat16 is at work
    assert float((once - exact).norm()) < 1.1 * float(error)


@pytest.mark.parametrize("kind", ["encoder", "dit", "forecaster"])
def test_in_bfloat16_the_linear_layers_are_converted_and_nothing_else(tiny_checkpoint: Path, kind: str) -> None:
    network = getattr(Parts(tiny_checkpoint, "cpu", "bfloat16"), kind)
    assert all(types(layer) == {torch.bfloat16} for layer in linear(network))
    inside = {id(value) for layer in linear(network) for value in tensors(layer)}
    assert {value.dtype for value in tensors(network) if id(value) not in inside} == {torch.float32}


def test_what_probes_read_and_what_writes_voxels_stays_in_float32(tiny_checkpoint: Path) -> None:
    tokenizer = Parts(tiny_checkpoint, "cpu", "bfloat16").tokenizer
    assert types(tokenizer.projection) == types(tokenizer.decoder.to_voxels) == {torch.float32}


def test_a_decoder_of_convolutions_answers_the_same_whatever_the_order_in_memory() -> None:
    torch.manual_seed(0)
    network = Tokenizer(TokenizerConfig(encoder_width=24, widths=(16, 8, 8, 8), blocks=(1, 1, 1, 1)))
    latents = torch.randn(1, 1200, 32)
    with torch.inference_mode():
        plain = network.decode(latents)
        ready = Runtime("cpu", "", "float32", "").prepare("tokenizer", network).decode(latents)
    assert plain.std() > 0.01
    torch.testing.assert_close(ready, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["encoder", "tokenizer", "dit", "forecaster"])
def test_in_float32_everything_stays_as_it_is_stored(tiny_checkpoint: Path, kind: str) -> None:
    assert types(getattr(Parts(tiny_checkpoint, "cpu", "float32"), kind)) == {torch.float32}


def test_a_network_is_made_ready_for_inference_and_not_for_training() -> None:
    ready = Runtime("cpu", "", "float32", "").prepare("dit", DiT(DiTConfig(width=24, depth=1, num_heads=2)))
    assert not ready.training and not any(p.requires_grad for p in ready.parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_cpu_a_wide_transformer_takes_row_by_row_and_answers_as_it_does_to_the_batch(precision: str) -> None:
    torch.manual_seed(0)
    config = DiTConfig(width=CACHED_WIDTH // 2 + 96, depth=1, num_heads=4, context_channels=32)
    network = DiT(config).eval().requires_grad_(False)
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.02)
    x, context, t = torch.randn(3, 1200, 32), torch.randn(3, 1200, 32), torch.tensor([0.2, 0.5, 0.9])
    diseases = [{"disease": name, "modality": "T1"} for name in ("HC", "AD", "PD")]
    conditions = ConditionBatch.from_rows(network.spec, diseases)
    batch = network(x, t, conditions, context)
    seen: list[int] = []
    network.time.register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    answer = Runtime("cpu", "", precision, "").prepare("dit", network)(x, t, conditions, context)
    assert seen == [1, 1, 1]
    assert float((answer - batch).norm() / batch.norm()) < (1e-5 if precision == "float32" else 1e-2)
    assert float((batch[0] - batch[1]).norm() / batch.norm()) > 0.1
