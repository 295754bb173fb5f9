"""Fields of neighbouring tokens: the closed form against the covariance written out, in double precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from braing3n_core.models.conditions import ConditionSpec
from braing3n_core.models.fields import TokenFields, smoothest_waves
from braing3n_core.models.layers import GRID, NUM_TOKENS
from braing3n_core.models.prior import READ_AT, GaussianPrior

SPEC = ConditionSpec({"modality": ("T1", "T2")}, {})
CHANNELS, COUNT, WAVES = 2, 1, 5


@pytest.fixture(scope="module")
def prior() -> GaussianPrior:
    draw = torch.Generator().manual_seed(0)
    prior = GaussianPrior(SPEC, (NUM_TOKENS, CHANNELS), by="modality", factors=3)
    prior.add_fields(COUNT, WAVES)
    assert prior.fields is not None
    for group in range(2):
        prior.fields.keep_maps(group, 0.5 * torch.randn(NUM_TOKENS, CHANNELS, COUNT, generator=draw))
    for buffer, size in ((prior.factors, 0.05), (prior.fields.level, 0.4),
                         (prior.fields.spectrum, 30.0), (prior.sigma, 0.2), (prior.mixing, 1.0)):  # fmt: skip
        buffer.copy_(size * torch.randn(buffer.shape, generator=draw))
    for buffer in (prior.fields.level, prior.fields.spectrum, prior.sigma):
        buffer.abs_()
    prior.sigma += 0.1
    return prior.double()


def covariance(prior: GaussianPrior, group: int) -> Tensor:
    """(P,P), by the definition."""
    fields = prior.fields
    assert fields is not None
    maps = torch.block_diag(*fields.maps_of(group))  # (P, N K)
    waves = smoothest_waves(WAVES).values
    of_fields = torch.zeros(NUM_TOKENS, COUNT, NUM_TOKENS, COUNT, dtype=torch.float64)
    for k in range(COUNT):
        smooth = waves.T @ torch.diag(fields.spectrum[group, :, k]) @ waves
        of_fields[:, k, :, k] = smooth + fields.level[group, k] * torch.eye(NUM_TOKENS)
    found = maps @ of_fields.reshape(NUM_TOKENS * COUNT, -1) @ maps.T
    factors = prior.mixing[group] @ prior.factors
    return found + torch.diag(prior.sigma[group].flatten() ** 2) + factors.T @ factors


def test_waves_are_orthonormal_and_the_first_are_the_smoothest() -> None:
    waves = smoothest_waves(40).values
    torch.testing.assert_close(waves @ waves.T, torch.eye(40, dtype=torch.float64), rtol=0, atol=1e-5)
    assert waves[0].std() < 1e-6
    grid = waves.reshape(-1, *GRID)
    rough = torch.stack([grid.diff(dim=axis).square().sum((1, 2, 3)) for axis in (1, 2, 3)]).sum(0)
    assert (rough[0] < 1e-6) and rough[:10].max() < rough[-10:].min()


def test_sums_of_products_of_two_waves_are_those_of_the_definition() -> None:
    waves = smoothest_waves(23)
    x = torch.randn(NUM_TOKENS, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    products = (waves.values[:, None] * waves.values).flatten(0, 1)
    torch.testing.assert_close(waves.summed_products(x), (products @ x).unflatten(0, (23, 23)))


def test_waves_that_inference_asked_for_first_serve_training_too() -> None:
    with torch.inference_mode():
        waves = smoothest_waves(7).values
    x = torch.ones(NUM_TOKENS, dtype=torch.float64, requires_grad=True)
    (waves @ x).square().sum().backward()
    assert x.grad is not None and x.grad.norm() > 0


@pytest.mark.parametrize("time", [0.0, 0.4, 0.95, 1.0])
def test_its_velocity_is_the_conditional_mean_of_jointly_normal_variables(prior: GaussianPrior, time: float) -> None:
    draw = torch.Generator().manual_seed(1)
    x, mu = torch.randn(2, 3, NUM_TOKENS, CHANNELS, generator=draw, dtype=torch.float64)
    group = torch.tensor([0, 1, 0])
    found, whitened, scale = prior.velocity(x, torch.full((3, 1, 1), time, dtype=torch.float64), mu, group)
    identity = torch.eye(NUM_TOKENS * CHANNELS, dtype=torch.float64)
    for row, own in enumerate(group.tolist()):
        whole = covariance(prior, own)
        of_point = time**2 * whole + (1 - time) ** 2 * identity
        offset = (x[row] - time * mu[row]).flatten()
        expected = mu[row].flatten() + (time * whole - (1 - time) * identity) @ torch.linalg.solve(of_point, offset)
        torch.testing.assert_close(found[row].flatten(), expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(whitened[row].flatten(), offset / of_point.diag().sqrt())
        torch.testing.assert_close(scale[row].flatten(), (whole.diag() / of_point.diag()).sqrt())


@pytest.mark.parametrize("time", [1.0, READ_AT, 0.6])
def test_what_is_common_and_what_is_specific_are_the_expected_parts_of_jointly_normal_variables(
    prior: GaussianPrior, time: float
) -> None:
    offset = torch.randn(3, NUM_TOKENS, CHANNELS, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    group = torch.tensor([0, 1, 0])
    found = prior.common(offset, group, time)
    of_noise = ((1 - time) / time) ** 2 * torch.eye(NUM_TOKENS * CHANNELS, dtype=torch.float64)
    alone = copy.deepcopy(prior)  # what waves and factors leave: sigma, and the fields from token to token
    assert alone.fields is not None
    alone.fields.spectrum.zero_()
    alone.factors.zero_()
    for row, own in enumerate(group.tolist()):
        whole = covariance(prior, own)
        solved = torch.linalg.solve(whole + of_noise, offset[row].flatten())
        expected = (whole - covariance(alone, own)) @ solved
        torch.testing.assert_close(found[row].flatten(), expected, rtol=1e-6, atol=1e-6)
        rest = (offset[row] - found[row]).flatten()
        torch.testing.assert_close(rest, (covariance(alone, own) + of_noise) @ solved, rtol=1e-6, atol=1e-6)


def test_maps_are_kept_to_a_254th_of_the_largest_of_their_element() -> None:
    fields = TokenFields(2, CHANNELS, count=4, waves=WAVES)
    maps = torch.randn(NUM_TOKENS, CHANNELS, 4, generator=torch.Generator().manual_seed(6))
    maps[7] = 0
    fields.keep_maps(1, maps)
    off, largest = (fields.maps_of(1) - maps).abs().amax(-1), maps.abs().amax(-1)
    assert (off <= largest / 254 + 1e-7).all() and fields.maps_of(1)[7].abs().max() == 0
    assert torch.count_nonzero(fields.maps_of(0)) == 0


def test_what_the_fields_give_to_directions_is_their_covariance(prior: GaussianPrior) -> None:
    draw = torch.Generator().manual_seed(4)
    directions = torch.randn(3, NUM_TOKENS, CHANNELS, generator=draw, dtype=torch.float64)
    alone = copy.deepcopy(prior)
    alone.sigma.zero_()
    alone.factors.zero_()
    expected = directions.flatten(1) @ covariance(alone, 1) @ directions.flatten(1).T
    assert prior.fields is not None
    torch.testing.assert_close(prior.fields.covariance(1, directions), expected, rtol=1e-6, atol=1e-6)


def test_rows_of_other_times_and_groups_do_not_touch_each_other(prior: GaussianPrior) -> None:
    draw = torch.Generator().manual_seed(2)
    x, mu = torch.randn(2, 4, NUM_TOKENS, CHANNELS, generator=draw, dtype=torch.float64)
    t, group = torch.tensor([0.3, 0.8, 0.3, 0.3]).double()[:, None, None], torch.tensor([0, 0, 1, 0])
    together = prior.velocity(x, t, mu, group)[0]
    for row in range(4):
        alone = prior.velocity(x[row : row + 1], t[row : row + 1], mu[row : row + 1], group[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone[0])


def test_fields_of_no_size_change_nothing() -> None:
    draw = torch.Generator().manual_seed(3)
    plain = GaussianPrior(SPEC, (NUM_TOKENS, CHANNELS), factors=3).double()
    plain.factors.copy_(torch.randn(plain.factors.shape, generator=draw))
    plain.sigma.uniform_(0.2, 1.0, generator=draw)
    with_fields = GaussianPrior(SPEC, (NUM_TOKENS, CHANNELS), factors=3)
    with_fields.add_fields(COUNT, WAVES)
    with_fields = with_fields.double()
    with_fields.factors.copy_(plain.factors)
    with_fields.sigma.copy_(plain.sigma[None])
    x, mu = torch.randn(2, 2, NUM_TOKENS, CHANNELS, generator=draw, dtype=torch.float64)
    t = torch.tensor([0.2, 0.9]).double()[:, None, None]
    found = with_fields.velocity(x, t, mu, torch.tensor([0, 0]))
    for mine, expected in zip(found, plain.velocity(x, t, mu), strict=True):
        torch.testing.assert_close(mine, expected)


def test_the_group_of_the_rows_has_to_be_told(prior: GaussianPrior) -> None:
    x = torch.zeros(1, NUM_TOKENS, CHANNELS, dtype=torch.float64)
    with pytest.raises(ValueError, match="group of each row"):
        prior.velocity(x, torch.zeros(1, 1, 1, dtype=torch.float64), x)
