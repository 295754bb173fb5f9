"""Shards are parts I of N from 1, and everything else is refused with what would be right."""

from __future__ import annotations

import pytest

from braing3n_core.errors import RequestError
from braing3n_core.shard import parse_shard


def test_a_shard_is_a_part_counted_from_one() -> None:
    assert [parse_shard(text) for text in ("1/1", "2/4", "100/100")] == [(1, 1), (2, 4), (100, 100)]


@pytest.mark.parametrize("text", ["2", "a/b", "1/", "/3", "-1/3", "1/2/3", "1.5/2", "\u00b2/3"])
def test_what_is_no_shard_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RequestError, match="Cannot read the shard") as refused:
        parse_shard(text)
    assert "2/4" in refused.value.hint


@pytest.mark.parametrize("text", ["0/4", "5/4", "0/0"])
def test_a_shard_that_does_not_exist_says_that_shards_count_from_one(text: str) -> None:
    with pytest.raises(RequestError, match="There is no shard") as refused:
        parse_shard(text)
    assert "count from 1" in refused.value.hint
