"""FlowEdit on flows whose answer is known: Gaussians that differ by their condition."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from braing3n_core.errors import Cancelled, RequestError
from braing3n_core.generation.counterfactual import Edit, EditOptions, counterfactual
from braing3n_core.generation.flow import LinearPath
from braing3n_core.generation.guidance import Contrast, Guidance
from braing3n_core.generation.inversion import INVERSIONS, renoised
from braing3n_core.generation.sampling import noise
from braing3n_core.progress import Cancel
from braing3n_core.schema import EDIT_METHODS

STD = 0.5


def _conditional(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
    """Exact velocity of the linear path from N(0,1) to N(condition, STD^2); a condition is (B,1,C)."""
    mean, s = torch.cat([c.expand(len(x) // len(conds), 1, -1) for c in conds]), t.reshape(-1, 1, 1).to(x)
    variance = (1 - s) ** 2 + s**2 * STD**2
    return mean + (s * STD**2 - (1 - s)) / variance * (x - s * mean)


SOURCE, TARGET = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[3.0, -2.0]]])


def _latents(batch: int = 3) -> Tensor:
    return SOURCE + STD * torch.randn(batch, 6, 2, generator=torch.Generator().manual_seed(0))


def test_unchanged_conditions_return_the_scan_bit_for_bit() -> None:
    z = _latents()
    assert torch.equal(counterfactual(_conditional, z, Edit(SOURCE, SOURCE)), z)


def test_equal_conditions_in_two_objects_also_leave_the_scan_alone() -> None:
    z = _latents()
    assert torch.equal(counterfactual(_conditional, z, Edit(SOURCE, SOURCE.clone())), z)


def test_an_edit_moves_a_scan_by_the_difference_of_the_two_populations_and_keeps_its_own_deviation() -> None:
    z = _latents()
    edited = counterfactual(_conditional, z, Edit(SOURCE, TARGET), EditOptions(num_steps=400, shift=1.0))
    torch.testing.assert_close(edited, z + (TARGET - SOURCE), atol=0.02, rtol=0)


def test_a_condition_that_is_not_edited_does_not_change() -> None:
    z = _latents()
    edited = counterfactual(_conditional, z, Edit(SOURCE, TARGET), EditOptions(num_steps=8))
    torch.testing.assert_close(edited[..., 1], z[..., 1], atol=1e-5, rtol=0)


def test_the_edit_grows_with_strength_and_vanishes_at_zero() -> None:
    z = _latents()
    edit = Edit(SOURCE, TARGET)
    ends = [counterfactual(_conditional, z, edit, EditOptions(s, 200)) for s in (0.0, 0.3, 0.6, 1.0)]
    sizes = [(end - z).abs().mean().item() for end in ends]
    assert torch.equal(ends[0], z) and sizes == sorted(sizes) and sizes[1] > 0


def test_guidance_against_the_source_amplifies_the_edit() -> None:
    z = _latents()
    plain = counterfactual(_conditional, z, Edit(SOURCE, TARGET))
    guided = counterfactual(_conditional, z, Edit(SOURCE, TARGET, [Contrast(SOURCE, Guidance(2.0))]))
    assert ((guided - z)[..., 0] > 1.5 * (plain - z)[..., 0]).all()
    torch.testing.assert_close(guided[..., 1], z[..., 1], atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_answer_and_a_row_does_not_depend_on_its_neighbours() -> None:
    def nonlinear(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
        return torch.sin(3 * x) * torch.cat([c.expand(len(x) // len(conds), 1, -1) for c in conds])

    z, edit = _latents(), Edit(SOURCE, TARGET)
    first = counterfactual(nonlinear, z, edit, EditOptions(seed=4))
    assert torch.equal(first, counterfactual(nonlinear, z, edit, EditOptions(seed=4)))
    torch.testing.assert_close(first[1:2], counterfactual(nonlinear, z[1:2], edit, EditOptions(seed=4)))
    assert not torch.equal(first, counterfactual(nonlinear, z, edit, EditOptions(seed=5)))
    averaged = [counterfactual(nonlinear, z, edit, EditOptions(seed=s, draws=16)) for s in (4, 5)]
    single = counterfactual(nonlinear, z, edit, EditOptions(seed=5))
    assert (averaged[0] - averaged[1]).square().mean() < (first - single).square().mean()


def test_source_and_target_share_one_call_per_step() -> None:
    calls: list[int] = []

    def counting(x: Tensor, t: Tensor, conds: Sequence[Tensor]) -> Tensor:
        calls.append(len(x))
        return _conditional(x, t, conds)

    edit = Edit(SOURCE, TARGET, [Contrast(SOURCE, Guidance(2.0))])
    counterfactual(counting, _latents(), edit, EditOptions(num_steps=5))
    assert calls == [9] * 5


def test_impossible_options_are_refused_and_an_edit_can_be_cancelled() -> None:
    for bad in ({"strength": 1.2}, {"strength": float("nan")}, {"draws": 0}):
        with pytest.raises(RequestError):
            EditOptions(**bad)  # type: ignore[arg-type]
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(Cancelled):
        counterfactual(_conditional, _latents(), Edit(SOURCE, TARGET), cancel=cancel)


@pytest.mark.parametrize("method", EDIT_METHODS)
def test_unchanged_conditions_return_the_scan_bit_for_bit_by_every_method(method: str) -> None:
    z = _latents()
    assert torch.equal(counterfactual(_conditional, z, Edit(SOURCE, SOURCE), EditOptions(method=method)), z)


@pytest.mark.parametrize("method", INVERSIONS)
def test_an_inversion_moves_a_scan_by_the_difference_of_the_populations_and_equal_conditions_by_nothing(
    method: str,
) -> None:
    z, options = _latents(), EditOptions(num_steps=40, shift=1.0, method=method)
    edited = counterfactual(_conditional, z, Edit(SOURCE, TARGET), options)
    torch.testing.assert_close(edited, z + (TARGET - SOURCE), atol=0.01, rtol=0)
    assert torch.equal(counterfactual(_conditional, z, Edit(SOURCE, SOURCE.clone()), options), z)


@pytest.mark.parametrize("method", ["flowedit", *INVERSIONS])
def test_there_and_back_again_leaves_under_a_tenth_of_the_edit(method: str) -> None:
    z, options = _latents(), EditOptions(num_steps=12, method=method)
    edited = counterfactual(_conditional, z, Edit(SOURCE, TARGET), options)
    back = counterfactual(_conditional, edited, Edit(TARGET, SOURCE), options)
    assert (back - z).norm() < 0.1 * (edited - z).norm()


@pytest.mark.parametrize("method", INVERSIONS)
def test_an_inversion_may_stop_before_the_noise_and_edits_less(method: str) -> None:
    z = _latents()
    halfway, whole = (
        counterfactual(_conditional, z, Edit(SOURCE, TARGET), EditOptions(s, 20, method=method)) for s in (0.5, 1.0)
    )
    assert 0 < (halfway - z).norm() < (whole - z).norm()


def test_sdedit_mixes_the_scan_with_noise_on_the_path_that_the_model_knows() -> None:
    z = _latents()
    expected = LinearPath().at(noise(z.shape[1:], 3).expand_as(z), z, torch.full((3,), 0.7)).x_t
    torch.testing.assert_close(renoised(z, 0.7, 3), expected)


def test_sdedit_ends_in_the_target_population_and_keeps_less_of_the_scan_the_stronger_it_is() -> None:
    z = SOURCE + STD * torch.randn(4, 400, 2, generator=torch.Generator().manual_seed(0))
    ends = [
        counterfactual(_conditional, z, Edit(SOURCE, TARGET), EditOptions(s, 60, shift=1.0, method="sdedit"))
        for s in (0.3, 1.0)
    ]
    assert ends[1].mean((0, 1)) == pytest.approx(TARGET.flatten(), abs=0.1)
    kept = [torch.corrcoef(torch.stack([e[0, :, 0], z[0, :, 0]]))[0, 1].item() for e in ends]
    assert kept[0] > 0.5 > abs(kept[1])


def test_an_unknown_way_of_editing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RequestError, match="'fireflow'"):
        EditOptions(method="firefly")
