"""Fields are found again in data that were made by fields, whatever way each token shows them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from braing3n_core.models.conditions import ConditionBatch, ConditionSpec
from braing3n_core.models.layers import NUM_TOKENS
from braing3n_core.models.prior import GaussianPrior
from training.conditions import fit_prior
from training.fit_fields import neighbours, turns

SPEC = ConditionSpec({"modality": ("T1", "T2")}, {})
CHANNELS, COUNT, WAVES, ROWS = 6, 2, 30, 400
SIZES = torch.linspace(4.0, 0.5, WAVES)


def drawn(fields: Tensor, draw: torch.Generator) -> Tensor:
    """Latents (R,N,C) in which each token shows smooth fields (R,N,K) by maps of its own, with a little noise."""
    maps = torch.linalg.qr(torch.randn(NUM_TOKENS, CHANNELS, COUNT, generator=draw))[0]
    return torch.einsum("nck,rnk->rnc", maps, fields) + 0.05 * torch.randn(*fields.shape[:2], CHANNELS, generator=draw)


@pytest.fixture(scope="module")
def fitted() -> tuple[GaussianPrior, Tensor, Tensor]:
    """A prior of two contrasts whose fields are alike and whose maps are not, held-out latents of T1, and theirs."""
    draw = torch.Generator().manual_seed(0)
    prior = GaussianPrior(SPEC, (NUM_TOKENS, CHANNELS), by="modality")
    prior.add_fields(COUNT, WAVES)
    assert prior.fields is not None
    scale = torch.tensor([1.5, 1.0]) * NUM_TOKENS**0.5 / SIZES.norm()  # in the mean a field's size is 1.5 and 1
    amounts = SIZES[:, None] * torch.randn(2 * ROWS + 100, WAVES, COUNT, generator=draw)
    fields = torch.einsum("mn,rmk->rnk", prior.fields.waves.values.float(), amounts) * scale
    one, two = drawn(fields[:-ROWS], draw), drawn(fields[-ROWS:], draw)
    target = torch.cat([one[:ROWS], two + 3.0])
    rows = ConditionBatch.from_rows(SPEC, [{"modality": "T1"}] * ROWS + [{"modality": "T2"}] * ROWS)
    fit_prior(prior, rows, target)
    return prior, one[ROWS:], target


def test_the_variance_of_each_contrast_is_that_of_its_rows(fitted: tuple[GaussianPrior, Tensor, Tensor]) -> None:
    prior, _, target = fitted
    for group, rows in enumerate((target[:ROWS], target[ROWS:])):
        found, expected = prior.variance(group), rows.var(0)
        assert abs(float(found.sum() / expected.sum()) - 1) < 0.03
        assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.9


def test_what_is_smooth_is_found_in_waves_and_nothing_from_token_to_token(
    fitted: tuple[GaussianPrior, Tensor, Tensor],
) -> None:
    fields = fitted[0].fields
    assert fields is not None
    assert (fields.level < 0.05).all() and (fields.spectrum.sum(1) / NUM_TOKENS > 0.9).all()
    assert (fields.spectrum[:, :5].mean(1) > 10 * fields.spectrum[:, -5:].mean(1)).all()


def test_it_tells_a_held_out_brain_from_noise_far_better_than_element_by_element(
    fitted: tuple[GaussianPrior, Tensor, Tensor],
) -> None:
    prior, held_out, _ = fitted
    draw = torch.Generator().manual_seed(1)
    noise, t = torch.randn(held_out.shape, generator=draw), torch.full((len(held_out), 1, 1), 0.4)
    rows = ConditionBatch.from_rows(SPEC, [{"modality": "T1"}] * len(held_out))
    x, mu = t * held_out + (1 - t) * noise, prior.mean(rows)
    with_fields = prior.velocity(x, t, mu, prior.features.group(rows))[0]
    plain = GaussianPrior(SPEC, prior.shape)
    plain.sigma.copy_(prior.variance(0).sqrt())
    alone = plain.velocity(x, t, mu)[0]
    truth = held_out - noise
    assert (with_fields - truth).square().mean() < 0.25 * (alone - truth).square().mean()


def test_a_factor_varies_in_each_contrast_as_much_as_its_rows_say() -> None:
    draw = torch.Generator().manual_seed(4)
    one, two = torch.linalg.qr(torch.randn(NUM_TOKENS * CHANNELS, 2, generator=draw))[0].T
    amounts = torch.randn(2 * ROWS, 2, generator=draw)
    sizes = torch.tensor([[50.0, 10.0]]).repeat(ROWS, 1), torch.tensor([[15.0, 40.0]]).repeat(ROWS, 1)
    noise = 0.3 * torch.randn(2 * ROWS, NUM_TOKENS, CHANNELS, generator=draw)
    target = ((amounts * torch.cat(sizes)) @ torch.stack([one, two])).reshape(noise.shape) + noise
    rows = ConditionBatch.from_rows(SPEC, [{"modality": "T1"}] * ROWS + [{"modality": "T2"}] * ROWS)
    prior = GaussianPrior(SPEC, (NUM_TOKENS, CHANNELS), by="modality", factors=2)
    prior.add_fields(COUNT, WAVES)
    fit_prior(prior, rows, target)
    for group, expected in enumerate(([50.0, 10.0], [15.0, 40.0])):
        along = prior.factors_of(group) @ torch.stack([one, two]).T
        torch.testing.assert_close((along.T @ along).diag().sqrt(), torch.tensor(expected), rtol=0.1, atol=0.5)


def test_turns_bring_back_fields_that_every_token_has_turned_in_its_own_way() -> None:
    draw = torch.Generator().manual_seed(2)
    fields = torch.randn(ROWS, 1, COUNT, generator=draw).expand(ROWS, NUM_TOKENS, COUNT) * ROWS**-0.5
    turned = torch.linalg.qr(torch.randn(NUM_TOKENS, COUNT, COUNT, generator=draw))[0]
    amounts = torch.einsum("rnk,nkl->rnl", fields, turned)
    found = torch.einsum("rnk,nkl->rnl", amounts, turns(amounts))
    torch.testing.assert_close(found, found[:, :1].expand_as(found), rtol=0, atol=1e-4)


def test_neighbours_share_a_face_and_are_told_both_ways() -> None:
    first, second = neighbours()
    assert len(first) == 2 * (9 * 12 * 10 + 10 * 11 * 10 + 10 * 12 * 9)
    assert set((first - second).abs().tolist()) == {1, 10, 120}
    assert {(b, a) for a, b in zip(first.tolist(), second.tolist(), strict=True)} == set(
        zip(first.tolist(), second.tolist(), strict=True)
    )


def test_a_contrast_without_rows_keeps_no_fields() -> None:
    draw = torch.Generator().manual_seed(3)
    prior = GaussianPrior(SPEC, (NUM_TOKENS, CHANNELS), by="modality")
    prior.add_fields(COUNT, WAVES)
    assert prior.fields is not None
    rows = ConditionBatch.from_rows(SPEC, [{"modality": "T1"}] * 20)
    fit_prior(prior, rows, torch.randn(20, NUM_TOKENS, CHANNELS, generator=draw))
    assert prior.fields.maps[0].abs().max() > 0 and torch.count_nonzero(prior.fields.maps[1]) == 0
    assert (prior.sigma[1] == 1).all()
