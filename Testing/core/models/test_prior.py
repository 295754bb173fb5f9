"""The Gaussian part of the velocity against its closed form."""

from __future__ import annotations

import pytest
import torch

from braing3n_core.models.conditions import ConditionBatch, ConditionSpec
from braing3n_core.models.dit import DiT, DiTConfig
from braing3n_core.models.prior import READ_AT, ConditionFeatures, GaussianPrior

SPEC = ConditionSpec({"sex": ("F", "M"), "modality": ("T1", "T2")}, {"age_years": (50.0, 20.0)}, ("modality",))


def prior_of(sigma: float) -> GaussianPrior:
    prior = GaussianPrior(SPEC, (1, 1))
    prior.sigma.fill_(sigma)
    return prior


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (1.5, 0.4), (-0.7, 2.0)])
def test_its_velocity_is_the_expected_velocity_given_the_point(time: float, mu: float, sigma: float) -> None:
    generator = torch.Generator().manual_seed(1)
    source, target = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    target = mu + sigma * target
    point, velocity = time * target + (1 - time) * source, target - source
    spread = point.var()
    slope = ((point - point.mean()) * (velocity - velocity.mean())).mean() / spread
    places = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    expected = velocity.mean() + slope * (places - point.mean())  # the regression of jointly Gaussian variables
    found, _, _ = prior_of(sigma).double().velocity(
        places[:, None, None], torch.full((3, 1, 1), time, dtype=torch.float64), torch.full((3, 1, 1), mu).double()
    )
    torch.testing.assert_close(found.flatten(), expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("time", [0.0, 0.3, 0.8, 1.0])
def test_the_whitened_input_and_the_rest_of_the_velocity_have_unit_scale(time: float) -> None:
    generator = torch.Generator().manual_seed(2)
    mu, sigma = 1.5, 0.4
    source, noise = torch.randn(2, 200_000, 1, 1, generator=generator)
    target = mu + sigma * noise
    found, whitened, scale = prior_of(sigma).velocity(
        time * target + (1 - time) * source, torch.full((200_000, 1, 1), time), torch.tensor(mu)
    )
    rest = (target - source - found) / scale
    assert abs(whitened.mean()) < 0.02 and abs(whitened.std() - 1) < 0.02
    assert abs(rest.mean()) < 0.02 and abs(rest.std() - 1) < 0.02


def test_integrating_it_carries_noise_to_the_target_distribution() -> None:
    prior, mu, steps = prior_of(0.4).double(), torch.tensor(1.5, dtype=torch.float64), 400
    start = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None, None]
    x = start
    for step in range(steps):
        t = torch.full((7, 1, 1), step / steps, dtype=torch.float64)
        first, _, _ = prior.velocity(x, t, mu)
        second, _, _ = prior.velocity(x + first / steps, t + 1 / steps, mu)
        x = x + (first + second) / (2 * steps)
    torch.testing.assert_close(x, mu + 0.4 * start, rtol=0, atol=1e-3)


def test_the_mean_is_linear_in_the_features_of_the_conditions() -> None:
    prior = GaussianPrior(SPEC, (2, 1))
    with torch.no_grad():
        prior.weight[prior.features.columns - 2] = torch.tensor([3.0, 0.0])  # the standardised age
    rows = [{"sex": "F", "modality": "T1", "age_years": age} for age in (50.0, 70.0, 90.0)]
    mean = prior.mean(ConditionBatch.from_rows(SPEC, rows))
    torch.testing.assert_close(mean[:, :, 0], torch.tensor([[0.0, 0.0], [3.0, 0.0], [6.0, 0.0]]))


def test_unknown_and_null_conditions_take_the_average_of_the_training_set() -> None:
    features = ConditionFeatures(SPEC)
    features.averages.copy_(torch.arange(features.columns, dtype=torch.float32))
    batch = ConditionBatch.from_rows(SPEC, [{"modality": "T2"}, {"sex": "M", "modality": "T2", "age_years": 70.0}])
    known = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0]  # intercept, F, M, T1, T2, age, age squared
    assert features(batch).tolist() == [[1.0, 1.0, 2.0, 0.0, 1.0, 5.0, 6.0], known]
    assert features(batch.null())[1].tolist() == [1.0, 1.0, 2.0, 0.0, 1.0, 5.0, 6.0]


def test_a_grouping_condition_has_its_own_coefficients() -> None:
    features = ConditionFeatures(SPEC, by="modality")
    columns = features(ConditionBatch.from_rows(SPEC, [{"modality": "T1"}, {"modality": "T2"}]))
    assert features.size == 2 * features.columns
    assert torch.count_nonzero(columns[0, features.columns :]) == 0
    assert torch.count_nonzero(columns[1, : features.columns]) == 0


def test_the_mean_can_follow_the_baseline() -> None:
    prior = GaussianPrior(SPEC, (2, 1), components=1)
    with torch.no_grad():
        prior.components.copy_(torch.tensor([[1.0, 0.0]]))
        prior.centre.copy_(torch.tensor([10.0, 0.0]))
        prior.weight[-1] = torch.tensor([2.0, 0.0])
    context = torch.tensor([[[13.0], [7.0]]])
    assert prior.mean(ConditionBatch.from_rows(SPEC, [{}]), context).flatten().tolist() == [6.0, 0.0]


def test_an_untrained_network_with_the_prior_is_the_prior_alone() -> None:
    torch.manual_seed(3)
    model = DiT(DiTConfig(width=24, depth=1, num_heads=2, channels=4, prior="gaussian"))
    with torch.no_grad():
        model.prior.weight.normal_(std=0.1)
        model.prior.sigma.uniform_(0.3, 1.2)
        x, t, conditions = torch.randn(2, 1200, 4), torch.tensor([0.2, 0.7]), ConditionBatch.from_rows(
            model.spec, [{"modality": "T1", "age_years": 60.0}, {"modality": "FLAIR"}]
        )
        expected, _, _ = model.prior.velocity(x, t[:, None, None], model.prior.mean(conditions))
        assert torch.equal(model(x, t, conditions), expected)
        assert torch.count_nonzero(expected) > 0


def prior_with_factors(elements: int = 6, factors: int = 2) -> tuple[GaussianPrior, torch.Tensor]:
    """A prior of so many tokens of one channel, in float64, and its covariance."""
    prior = GaussianPrior(SPEC, (elements, 1), factors=factors).double()
    generator = torch.Generator().manual_seed(4)
    prior.factors.copy_(torch.randn(factors, elements, generator=generator))
    prior.sigma.copy_(0.2 + torch.rand(elements, 1, generator=generator))
    return prior, torch.diag(prior.sigma.flatten() ** 2) + prior.factors.T @ prior.factors


@pytest.mark.parametrize("time", [0.0, 0.35, 0.9, 1.0])
def test_with_factors_its_velocity_is_the_conditional_mean_of_jointly_normal_variables(time: float) -> None:
    prior, covariance = prior_with_factors()
    generator = torch.Generator().manual_seed(5)
    x, mu = torch.randn(2, 3, 6, 1, generator=generator, dtype=torch.float64)
    identity = torch.eye(6, dtype=torch.float64)
    of_point = time**2 * covariance + (1 - time) ** 2 * identity
    of_both = time * covariance - (1 - time) * identity  # covariance of the velocity with the point
    offset = (x - time * mu).flatten(1)
    expected = mu.flatten(1) + offset @ torch.linalg.solve(of_point, of_both)
    found, whitened, scale = prior.velocity(x, torch.full((3, 1, 1), time, dtype=torch.float64), mu)
    torch.testing.assert_close(found.flatten(1), expected)
    torch.testing.assert_close(whitened.flatten(1), offset / of_point.diag().sqrt())
    rest = (covariance + identity - of_both @ torch.linalg.solve(of_point, of_both)).diag()
    shares = rest / scale[0].flatten() ** 2
    assert shares.max() < 1 + 1e-9 and (time in (0.0, 1.0)) == bool(shares.min() > 1 - 1e-9)


def test_with_factors_integrating_it_makes_the_elements_vary_together_as_the_target_does() -> None:
    prior, covariance = prior_with_factors()
    steps, x = 800, torch.eye(6, dtype=torch.float64)[..., None]
    mu = torch.zeros(1, 6, 1, dtype=torch.float64)
    for step in range(steps):
        t = torch.full((6, 1, 1), step / steps, dtype=torch.float64)
        middle = x + prior.velocity(x, t, mu)[0] / (2 * steps)
        x = x + prior.velocity(middle, t + 0.5 / steps, mu)[0] / steps
    carried = x.flatten(1)  # the flow is linear: row i is where the i-th unit of noise went
    torch.testing.assert_close(carried.T @ carried, covariance, rtol=0, atol=1e-3)


def test_near_the_brain_its_velocity_in_single_precision_is_that_in_double() -> None:
    generator = torch.Generator().manual_seed(3)
    exact = GaussianPrior(SPEC, (400, 1), factors=8).double()
    exact.sigma.fill_(0.03)
    exact.factors.copy_(torch.randn(8, 400, generator=generator))
    single = GaussianPrior(SPEC, (400, 1), factors=8)
    single.load_state_dict(exact.state_dict())
    x, mu = torch.randn(2, 1, 400, 1, generator=generator)
    found = [prior.velocity(x.to(prior.sigma), torch.full((1, 1, 1), 0.98).to(prior.sigma), mu.to(prior.sigma))[0]
             for prior in (exact, single)]
    torch.testing.assert_close(found[1].double(), found[0], rtol=0, atol=2e-6 * float(found[0].abs().max()))


def test_a_prior_without_factors_stores_none_so_that_older_checkpoints_still_load() -> None:
    assert "factors" not in GaussianPrior(SPEC, (2, 1)).state_dict()
    assert "factors" in GaussianPrior(SPEC, (2, 1), factors=3).state_dict()


def test_what_factors_move_is_common_and_without_them_nothing_is() -> None:
    prior, covariance = prior_with_factors()
    offset = torch.randn(4, 6, 1, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    group = torch.zeros(4, dtype=torch.long)
    for time in (1.0, READ_AT):
        noisy = covariance + ((1 - time) / time) ** 2 * torch.eye(6, dtype=torch.float64)
        common = prior.factors.T @ prior.factors @ torch.linalg.solve(noisy, offset.flatten(1).T)
        torch.testing.assert_close(prior.common(offset, group, time).flatten(1), common.T)
    torch.testing.assert_close(prior.common(offset, group), prior.common(offset, group, READ_AT))
    plain = GaussianPrior(SPEC, (6, 1)).double()
    assert prior.has_common and not plain.has_common
    assert torch.count_nonzero(plain.common(offset, group)) == 0


def test_an_error_in_an_element_that_hardly_varies_does_not_come_back_larger() -> None:
    prior, _ = prior_with_factors()
    prior.sigma[0], prior.factors[:, 0] = 1e-4, 5e-3
    group = torch.zeros(1, dtype=torch.long)
    error = torch.zeros(1, 6, 1, dtype=torch.float64)
    error[0, 0] = 1e-3
    assert prior.common(error, group).norm() < error.norm() < 0.1 * prior.common(error, group, time=1.0).norm()


def test_a_mean_of_few_maps_is_the_nearest_of_that_rank_and_one_of_all_is_exact_to_the_step() -> None:
    draw = torch.Generator().manual_seed(0)
    full = GaussianPrior(SPEC, (30, 4))
    coefficients = torch.randn(full.features.size, 2, generator=draw) @ torch.randn(2, 120, generator=draw)
    coefficients += 0.01 * torch.randn(coefficients.shape, generator=draw)
    full.set_coefficients(coefficients)
    rows = ConditionBatch.from_rows(SPEC, [
        {"sex": "F", "modality": "T1", "age_years": 30.0}, {"modality": "T2", "age_years": 80.0}, {}
    ])
    expected, errors = full.mean(rows), []
    for count in (1, 2, full.features.size):
        few = GaussianPrior(SPEC, (30, 4), maps=count)
        few.features.averages.copy_(full.features.averages)
        few.set_coefficients(coefficients)
        assert few.maps.dtype == torch.int8 and int(few.maps.abs().max()) == 63
        errors.append(float((few.mean(rows) - expected).norm() / expected.norm()))
    assert errors[0] > 0.1 and errors[1] < 0.03 and errors[2] < 0.03


def test_a_prior_keeps_what_it_has_and_older_weights_still_fit() -> None:
    assert {"shares", "maps"} & set(GaussianPrior(SPEC, (3, 2)).state_dict()) == set()
    few = GaussianPrior(SPEC, (3, 2), maps=1)
    assert {"shares", "maps"} <= set(few.state_dict()) and "weight" not in few.state_dict()
