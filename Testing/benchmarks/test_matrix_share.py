"""Shares of the sampling loop's time: closed forms, and one real run of the small transformer."""

from __future__ import annotations

import pytest

from benchmarks.matrix_share import profiled_sampling, shares


def test_shares_add_up_by_kind_and_come_largest_first() -> None:
    times = [("aten::gelu", 1.0), ("aten::addmm", 5.0), ("aten::_scaled_dot_product_flash_attention_for_cpu", 3.0),
             ("aten::bmm", 1.0)]
    found = shares(times)
    assert found == pytest.approx({"linear layers": 0.6, "attention": 0.3, "gelu": 0.1})
    assert list(found) == ["linear layers", "attention", "gelu"]


def test_a_real_run_of_the_small_transformer_is_mostly_linear_layers_and_attention() -> None:
    found = shares(profiled_sampling("small", "cpu", steps=1))
    assert sum(found.values()) == pytest.approx(1)
    assert min(found["linear layers"], found["attention"]) > 0.05
