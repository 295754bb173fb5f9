"""Configurations are filled strictly: nothing unknown, nothing of another type."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from braing3n_core.config import config_from_dict, load_toml
from braing3n_core.errors import ConfigError


@dataclass(frozen=True)
class Optimiser:
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True)
class Config:
    width: int
    name: str = "small"
    use_ema: bool = True
    steps: tuple[int, ...] = ()
    limit: float | None = None
    mode: Literal["l1", "l2"] = "l1"
    vocabulary: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()
    optimiser: Optimiser = field(default_factory=Optimiser)


def test_a_nested_table_fills_nested_dataclasses_and_lists_become_tuples() -> None:
    config = config_from_dict(
        Config, {"width": 8, "steps": [1, 2], "limit": 3, "folder": "x", "optimiser": {"lr": 1, "betas": [0.5, 0.6]}}
    )
    assert config == Config(8, steps=(1, 2), limit=3.0, folder=Path("x"), optimiser=Optimiser(1.0, (0.5, 0.6)))
    assert isinstance(config.optimiser.lr, float)


def test_an_unknown_key_is_refused_with_the_nearest_known_one_and_its_place() -> None:
    with pytest.raises(ConfigError, match=r"'widht'.*'width'"):
        config_from_dict(Config, {"widht": 8})
    with pytest.raises(ConfigError, match=r"train.toml.optimiser.*'bets'.*'betas'"):
        config_from_dict(Config, {"width": 8, "optimiser": {"bets": [0.1, 0.2]}}, "train.toml")


def test_a_missing_required_key_is_named() -> None:
    with pytest.raises(ConfigError, match="width"):
        config_from_dict(Config, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 8.5}, {"width": "8"}, {"width": True}, {"name": 3}, {"use_ema": 1}, {"steps": [1, "2"]}, {"steps": 3},
        {"limit": "none"}, {"mode": "l3"}, {"vocabulary": []}, {"optimiser": 3}, {"optimiser": {"betas": [0.9]}},
        {"optimiser": {"lr": False}}, {"folder": 3},
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place_and_value(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        config_from_dict(Config, {"width": 8, **wrong})


def test_toml_files_are_read_and_their_faults_said(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("width = 8\n[optimiser]\nlr = 2e-4\n")
    bad.write_text("width = = 8\n")
    assert config_from_dict(Config, load_toml(good)).optimiser.lr == 2e-4
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        load_toml(bad)
    with pytest.raises(ConfigError, match="No such file"):
        load_toml(tmp_path / "none.toml")
