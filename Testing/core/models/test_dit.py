"""The conditional transformer: adaLN-Zero, its conditions, its context."""

from __future__ import annotations

import pytest
import torch

from braing3n_core.models.conditions import ConditionBatch
from braing3n_core.models.dit import DiT, DiTConfig

SMALL = {"width": 24, "depth": 2, "num_heads": 2, "channels": 4}
ROW = {"disease": "AD", "sex": "F", "modality": "T1", "site": "site-03", "age_years": 70.0}


def awake(model: DiT) -> DiT:
    """Every parameter away from its zero start, as after training."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def test_the_parameter_count_at_paper_size_is_exact() -> None:
    with torch.device("meta"):
        model = DiT(DiTConfig())
    assert sum(p.numel() for p in model.parameters()) == 293_985_248


def test_the_paper_has_six_conditions_and_never_drops_the_modality() -> None:
    spec = DiTConfig().spec()
    assert set(spec.names) == {"disease", "sex", "modality", "site", "idh1", "age_years"}
    assert [len(words) for words in spec.categories.values()] == [8, 2, 4, 19, 2]
    assert spec.never_dropped == ("modality",)


def test_an_untrained_network_outputs_zero() -> None:
    torch.manual_seed(1)
    model = DiT(DiTConfig(**SMALL))
    with torch.no_grad():
        out = model(torch.randn(2, 1200, 4), torch.tensor([0.1, 0.9]), ConditionBatch.from_rows(model.spec, [ROW, {}]))
    assert out.shape == (2, 1200, 4)
    assert torch.count_nonzero(out) == 0


def test_every_condition_and_the_time_change_the_velocity() -> None:
    torch.manual_seed(2)
    model = awake(DiT(DiTConfig(**SMALL)))
    rows = [ROW, *({**ROW, **change} for change in ({"disease": "HC"}, {"sex": "M"}, {"modality": "T2"},
            {"site": "site-04"}, {"idh1": "mutant"}, {"age_years": 30.0}))]  # fmt: skip
    x = torch.randn(1, 1200, 4).expand(len(rows), -1, -1)
    with torch.no_grad():
        out = model(x, torch.full((len(rows),), 0.5), ConditionBatch.from_rows(model.spec, rows))
        later = model(x[:1], torch.tensor([0.6]), ConditionBatch.from_rows(model.spec, rows[:1]))
    assert all((out[i] - out[0]).abs().max() > 1e-4 for i in range(1, len(rows)))
    assert (later[0] - out[0]).abs().max() > 1e-4


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    torch.manual_seed(3)
    model = awake(DiT(DiTConfig(**SMALL)))
    x, t = torch.randn(3, 1200, 4), torch.tensor([0.1, 0.5, 0.9])
    conditions = ConditionBatch.from_rows(model.spec, [ROW, {**ROW, "sex": "M"}, {}])
    with torch.no_grad():
        together = model(x, t, conditions)
        alone = [model(x[i : i + 1], t[i : i + 1], conditions.rows(slice(i, i + 1))) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_the_baseline_enters_beside_the_noise() -> None:
    torch.manual_seed(4)
    model = awake(DiT(DiTConfig(**SMALL, context_channels=4)))
    x, t, conditions = torch.randn(1, 1200, 4), torch.tensor([0.5]), ConditionBatch.from_rows(model.spec, [ROW])
    with torch.no_grad():
        first, second = (model(x, t, conditions, torch.randn(1, 1200, 4)) for _ in range(2))
    assert first.shape == (1, 1200, 4)
    assert (first - second).abs().max() > 1e-3


def test_a_forecaster_cannot_be_called_without_its_baseline() -> None:
    model = DiT(DiTConfig(**SMALL, context_channels=4))
    with pytest.raises(RuntimeError):
        model(torch.randn(1, 1200, 4), torch.tensor([0.5]), ConditionBatch.from_rows(model.spec, [ROW]))
