"""Brains drawn from noise by the engine, on a tiny checkpoint with random weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from braing3n_core.atlas import ATLAS_AFFINE
from braing3n_core.drawing import carry
from braing3n_core.engine import Engine
from braing3n_core.errors import RequestError
from braing3n_core.inference import Inference
from braing3n_core.loading import Parts
from braing3n_core.schema import Conditions, GenerateRequest
from braing3n_core.volume import Volume

from .tiny_checkpoint import with_plain_generator, with_varied_generator

AD = Conditions(disease="AD")


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> Engine:
    return Engine(tiny_checkpoint, "cpu")


def test_generated_brains_differ_by_number_and_not_by_how_many_are_asked_for(
    engine: Engine, tmp_path: Path
) -> None:
    two = engine.run(GenerateRequest(AD, count=2, num_steps=2), tmp_path / "two")
    one = engine.run(GenerateRequest(AD, count=1, num_steps=2), tmp_path / "one")
    first, second = [Volume.load(o.path) for o in two.outputs if o.role == "generated"]
    assert np.array_equal(first.affine, ATLAS_AFFINE)
    assert not np.array_equal(first.array, second.array)
    assert np.array_equal(first.array, Volume.load(one.outputs[0].path).array)
    assert len(json.loads((tmp_path / "two" / "probes.json").read_text())["samples"]) == 2


def test_brains_drawn_from_less_noise_are_less_various_and_say_how_much_it_was(engine: Engine, tmp_path: Path) -> None:
    def spread(scale: float | None) -> float:
        request = GenerateRequest(AD, count=2, num_steps=2, noise_scale=scale)
        result = engine.run(request, tmp_path / f"{scale}")
        assert result.provenance["noise_scale"] == (1.0 if scale is None else scale)
        assert result.provenance["guidance_scale"] == 1.5
        first, second = [Volume.load(o.path).array for o in result.outputs if o.role == "generated"]
        return float(np.abs(first - second).mean())

    assert spread(0.0) == 0 < spread(0.3) < spread(1.0) == spread(None)
    with pytest.raises(RequestError, match="noise_scale must be a number from 0 to 2, got 3"):
        engine.run(GenerateRequest(AD, noise_scale=3.0), tmp_path / "no")


def test_truncated_brains_keep_their_share_of_what_sets_them_apart_from_the_mean_brain(
    engine: Engine, tmp_path: Path
) -> None:
    def drawn(**changes: object) -> np.ndarray:
        return engine.generate(GenerateRequest(AD, count=2, num_steps=2, **changes)).latents  # type: ignore[arg-type]

    whole, half, mean = drawn(), drawn(truncation=0.5), drawn(truncation=0.0)
    np.testing.assert_allclose(mean[0], mean[1], atol=1e-6)
    np.testing.assert_allclose(half, (whole + mean) / 2, atol=1e-5)
    assert np.array_equal(drawn(truncation=1.0), whole) and np.abs(whole - mean).max() > 0.1
    assert np.abs(drawn(truncation=0.0, seed=7) - mean).max() < 1e-6  # a mean brain has no noise
    old = GenerateRequest(dataclasses.replace(AD, age_years=80.0), num_steps=2, truncation=0.0)
    assert np.abs(engine.generate(old).latents - mean[:1]).max() > 0.1  # and the conditions that were asked for
    for asked, kept in ((None, 1.0), (0.5, 0.5)):
        result = engine.run(GenerateRequest(AD, num_steps=2, truncation=asked), tmp_path / f"{asked}")
        assert result.provenance["truncation"] == kept
    with pytest.raises(RequestError, match=r"truncation must be a number from 0 to 1, got 1\.5"):
        engine.run(GenerateRequest(AD, truncation=1.5), tmp_path / "no")


def test_a_generator_without_a_mean_brain_refuses_truncation_before_it_draws(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    engine = Engine(with_plain_generator(tiny_checkpoint, tmp_path), "cpu")
    assert engine.generate(GenerateRequest(AD, num_steps=1)).truncation == 1
    steps: list[float] = []
    with pytest.raises(RequestError, match=r"knows no mean brain .*prior is 'none'") as refused:
        engine.generate(
            GenerateRequest(AD, num_steps=1, truncation=0.5), progress=lambda share, words: steps.append(share)
        )
    assert "Leave the truncation out" in refused.value.hint and not steps


def test_brains_are_put_together_again_from_their_common_and_specific_parts(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = with_varied_generator(tiny_checkpoint, tmp_path)
    engine, inference = Engine(checkpoint, "cpu"), Inference(Parts(checkpoint, "cpu"))
    prior = inference.parts.dit.prior
    given = inference.conditions("dit", [{**dataclasses.asdict(AD), "modality": "T1"}])
    assert prior is not None

    def drawn(*weights: float, **changes: object) -> torch.Tensor:
        request = GenerateRequest(AD, num_steps=2, reweighting=weights or None, **changes)  # type: ignore[arg-type]
        return torch.from_numpy(engine.generate(request).latents)

    for scale in (1.0, 1.5):
        mean = prior.mean(given.null(given.spec.amplified)).lerp(prior.mean(given), scale)
        whole = drawn(1.0, 1.0, guidance_scale=scale)
        common = drawn(1.0, 0.0, guidance_scale=scale) - mean
        specific = drawn(0.0, 1.0, guidance_scale=scale) - mean
        torch.testing.assert_close(mean + common + specific, whole, rtol=0, atol=1e-4)
        torch.testing.assert_close(prior.common(whole - mean, prior.features.group(given)), common, rtol=0, atol=1e-4)
        again = drawn(1.5, 0.5, guidance_scale=scale)
        torch.testing.assert_close(again, mean + 1.5 * common + 0.5 * specific, rtol=0, atol=1e-4)
        torch.testing.assert_close(drawn(0.0, 0.0, guidance_scale=scale), mean, rtol=0, atol=1e-4)
    assert torch.equal(drawn(), drawn(1.0, 1.0)) and common.norm() > 1 and specific.norm() > 1
    half = drawn(1.5, 0.5, truncation=0.5, guidance_scale=1.0)
    torch.testing.assert_close(half, (prior.mean(given) + drawn(1.5, 0.5, guidance_scale=1.0)) / 2, rtol=0, atol=1e-4)
    result = engine.run(GenerateRequest(AD, num_steps=2, reweighting=(1.5, 0.5)), tmp_path / "out")
    assert result.provenance["reweighting"] == [1.5, 0.5]


def test_what_guidance_moves_is_no_part_of_a_brain_that_weights_touch(tiny_checkpoint: Path, tmp_path: Path) -> None:
    inference = Inference(Parts(with_varied_generator(tiny_checkpoint, tmp_path), "cpu", "float32"))
    torch.nn.init.zeros_(inference.parts.dit.tokens_out.weight)  # the Gaussian alone: guided, it is another Gaussian
    given = inference.conditions("dit", [{**dataclasses.asdict(AD), "modality": "T1"}])
    no_noise, request = torch.zeros(1, 1200, 32), GenerateRequest(guidance_scale=3.0, num_steps=25, exact_guidance=True)
    for changes in ({}, {"guide_numbers": True}):
        plain = dataclasses.replace(request, **changes)
        drawn, unguided = (carry(inference, given, no_noise, r) for r in (
            plain, dataclasses.replace(plain, guidance_scale=1.0)
        ))  # fmt: skip
        again = carry(inference, given, no_noise, dataclasses.replace(plain, reweighting=(2.0, 0.1)))
        torch.testing.assert_close(again, drawn, rtol=0, atol=1e-3)
        assert (drawn - unguided).abs().max() > 0.5


def test_weights_that_cannot_be_are_refused_before_anything_is_drawn(
    engine: Engine, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    for weights, words in (((1.5, 4.0), "a number from 0 to 3, got 4"), ((1.5,), "two weights"), (1.5, "two weights")):
        with pytest.raises(RequestError, match=words):
            engine.run(GenerateRequest(AD, reweighting=weights), tmp_path / "no")  # type: ignore[arg-type]
    steps: list[float] = []
    for unable in (engine, Engine(with_plain_generator(tiny_checkpoint, tmp_path), "cpu")):
        assert unable.generate(GenerateRequest(AD, num_steps=1)).reweighting == (1, 1)
        with pytest.raises(RequestError, match="neither factors nor fields") as refused:
            unable.generate(
                GenerateRequest(AD, num_steps=1, reweighting=(1.5, 0.5)),
                progress=lambda share, words: steps.append(share),
            )
        assert "Leave the reweighting out" in refused.value.hint and not steps


def test_guidance_at_every_second_evaluation_gives_nearly_the_brain_of_exact_guidance(engine: Engine) -> None:
    def drawn(**changes: object) -> np.ndarray:
        return engine.generate(dataclasses.replace(GenerateRequest(AD, guidance_scale=4.0), **changes)).latents  # type: ignore[arg-type]

    exact, ours, unguided = drawn(exact_guidance=True), drawn(), drawn(guidance_scale=1.0)
    assert 0 < np.linalg.norm(ours - exact) < 0.1 * np.linalg.norm(unguided - exact)
