"""Whom of a population a store is made of."""

from __future__ import annotations

from collections import Counter

from training.build_store import chosen
from training.phantom.subjects import make_population

POPULATION = make_population(1500, 1, 21, ["icbm152"])


def test_a_store_of_one_disease_keeps_those_who_have_it() -> None:
    kept = chosen(POPULATION, ["glioma"])
    assert {s.disease for s in kept} == {"glioma"}
    assert len(kept) == sum(s.disease == "glioma" for s in POPULATION)
    assert chosen(POPULATION) == POPULATION


def test_as_many_with_the_mutation_as_without_are_kept_in_their_order() -> None:
    kept = chosen(POPULATION, ["glioma"], 5)
    assert Counter(s.idh1 for s in kept) == {"wildtype": 5, "mutant": 5}
    assert kept == [s for s in POPULATION if s in kept]
    assert {s.idh1 for s in chosen(POPULATION, each_idh1=2)} == {"wildtype", "mutant"}
