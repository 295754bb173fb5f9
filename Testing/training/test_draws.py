"""What a step sees follows from the step, the seed and the data, and is as balanced as the configuration says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from braing3n_core.config import config_from_dict
from braing3n_core.errors import BrainG3NError, ConfigError
from training.draws import Draws, draws_of, draws_of_pairs, weights_of
from training.loop import Batch, Run, TrainConfig, train
from training.sampling import Sampler, balanced, strata_of

RECORDS = [
    {"subject": f"p{i}", "disease": d, "idh1": None, "modality": "T1", "site": f"s{i % 3}"}
    for i, d in enumerate(["HC"] * 40 + ["AD"] * 16 + ["GBM"] * 4)
]


def config(**changes: object) -> TrainConfig:
    return config_from_dict(TrainConfig, {"batch_size": 6, "seed": 3, **changes})


def chance(step: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def test_without_a_temperature_rows_come_by_chance_from_the_steps_own_generator() -> None:
    drawn = draws_of(RECORDS, config())(5, chance(9))
    assert torch.equal(drawn, torch.randint(60, (6,), generator=chance(9)))


def test_step_after_step_the_draws_are_the_samplers_walk() -> None:
    walk = Sampler(balanced(strata_of(RECORDS), 2.0), 3)
    draws = draws_of(RECORDS, config(balance_temperature=2.0))
    for step in range(25):
        assert draws(step, chance()).tolist() == walk.next_batch(6).tolist()


def test_a_step_draws_the_same_whichever_steps_were_drawn_before() -> None:
    first, later = (draws_of(RECORDS, config(balance_temperature=2.0)) for _ in range(2))
    for step in (0, 1, 17, 18, 3):
        first(step, chance())
    assert torch.equal(first(31, chance(1)), later(31, chance(2)))
    assert not torch.equal(first(31, chance()), first(32, chance()))


@pytest.mark.parametrize(("temperature", "counts"), [(1.0, (40, 16, 4)), (float("inf"), (20, 20, 20))])
def test_an_epoch_has_the_strata_in_the_shares_of_the_temperature(
    temperature: float, counts: tuple[int, int, int]
) -> None:
    draws = draws_of(RECORDS, config(balance_temperature=temperature))
    for epoch in range(3):
        seen = Counter(RECORDS[i]["disease"] for k in range(10) for i in draws(10 * epoch + k, chance()).tolist())
        assert (seen["HC"], seen["AD"], seen["GBM"]) == counts


@pytest.mark.parametrize(
    ("temperature", "shares"), [(1.0, (40, 16, 4)), (2.0, (6.32, 4, 2)), (float("inf"), (1, 1, 1))]
)
def test_what_is_looked_at_together_weighs_as_it_is_drawn(temperature: float, shares: tuple[float, ...]) -> None:
    weight = weights_of(RECORDS, config(balance_temperature=temperature))
    assert weight is not None and float(weight.mean()) == pytest.approx(1)
    parts = [float(weight[begin:end].sum()) / 60 for begin, end in ((0, 40), (40, 56), (56, 60))]
    assert parts == pytest.approx([share / sum(shares) for share in shares], rel=1e-2)
    assert weights_of(RECORDS, config()) is None


def test_strata_can_be_other_labels_and_a_label_that_no_volume_has_is_refused() -> None:
    draws = draws_of(RECORDS[:40] + RECORDS[41:42], config(balance_temperature=1e9, balance_by=["disease"]))
    seen = Counter(i >= 40 for k in range(41) for i in draws(k, chance()).tolist())
    assert seen[True] == pytest.approx(seen[False], abs=6)
    with pytest.raises(ConfigError, match="Did you mean 'modality'"):
        draws_of(RECORDS, config(balance_temperature=1.0, balance_by=["modalty"]))
    with pytest.raises(BrainG3NError, match=r"temperature is 0\.5"):
        draws_of(RECORDS, config(balance_temperature=0.5))


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_what_is_held_out_is_never_drawn(temperature: float) -> None:
    sides = [{**r, "split": ("train", "test", "val")[i % 3]} for i, r in enumerate(RECORDS)]
    draws = draws_of(sides, config(balance_temperature=temperature))
    seen = {i for k in range(40) for i in draws(k, chance(k)).tolist()}
    assert seen == set(range(0, 60, 3))


def test_pairs_of_visits_are_balanced_over_their_distance() -> None:
    horizons, people = [1.5] * 50 + [-1.5] * 9 + [9.0], [f"p{i % 20}" for i in range(60)]
    draws = draws_of_pairs(horizons, people, config(balance_temperature=float("inf")))
    seen = Counter(horizons[i] for k in range(10) for i in draws(k, chance()).tolist())
    assert seen == {1.5: 20, -1.5: 20, 9.0: 20}
    assert torch.equal(draws_of_pairs(horizons, people, config())(0, chance()), Draws(60, config())(0, chance()))


class _Slope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows - self.weight).square().mean()


def test_a_run_that_was_broken_off_sees_what_the_uninterrupted_one_sees(tmp_path: Path) -> None:
    settings = config(balance_temperature=2.0, steps=30, save_every=7, picture_every=0, precision="float32")

    def seen(out: Path, breaks_at: int = -1) -> dict[int, list[int]]:
        draws, told = draws_of(RECORDS, settings), {}

        def draw(step: int, generator: torch.Generator) -> Batch:
            if step == breaks_at:
                raise InterruptedError
            told[step] = draws(step, generator).tolist()
            return Batch((torch.tensor(told[step], dtype=torch.float32),))

        train(_Slope(), draw, Run(settings, out, torch.device("cpu")))
        return told

    whole = seen(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        seen(tmp_path / "broken", breaks_at=19)
    rest = seen(tmp_path / "broken")
    assert list(rest) == list(range(14, 30)) and all(rest[k] == whole[k] for k in rest)
