"""Generated queries against their possible worlds: a quick seeded run of the long experiment."""

from __future__ import annotations

import random
from collections import Counter

import duckdb
import pytest

from tests.relax.corpus import judge
from tests.relax.corpus_runs import affordable, certain, described
from tests.relax.corpus_schema import MODELS, random_data
from tests.relax.enumeration import Oracle
from tests.relax.generator import random_query

QUERIES = 10


def seeds(few, many):
    """The first few by default, all of them with the slow tests."""
    slow = (pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, many))
    return [*range(few), *slow]


@pytest.mark.parametrize("seed", seeds(6, 15))
def test_generated_queries_equal_their_possible_worlds(seed):
    rng = random.Random(seed)
    data = random_data(rng)
    with data.open() as con:
        oracle = Oracle(con, MODELS)
        for query in affordable(rng, data, QUERIES):
            try:
                verdict = judge(con, oracle, data, query)
            except duckdb.Error:
                continue  # a spelling DuckDB does not accept
            shown = (query.sql, query.cells, data.statements(), verdict)
            assert verdict.status in ("exact", "approximate", "refused", "engine"), shown


@pytest.mark.parametrize("seed", seeds(3, 6))
def test_certain_predictions_give_duckdbs_answer(seed):
    outcomes = certain(seed, 15)
    assert len(outcomes) >= 10
    for outcome in outcomes:
        assert outcome.verdict.status in ("exact", "approximate", "refused"), described(outcome)


def test_the_grammar_covers_the_constructs():
    rng = random.Random(0)
    seen = Counter(construct for _ in range(2000) for construct in random_query(rng).constructs)
    assert len(seen) >= 70
    wanted = (
        "= <> between like case arithmetic cast and or not count sum avg min max having distinct "
        "union except intersect window limit rollup cte"
    )
    for word in wanted.split():
        assert any(word in construct for construct in seen), word
    assert min(seen.values()) >= 5, seen.most_common()[-5:]


def test_nearly_every_generated_query_is_valid():
    rng = random.Random(1)
    data, failed = random_data(rng), 0
    with data.open() as con:
        oracle = Oracle(con, MODELS)
        predictions = [oracle.prediction(slot, p) for slot, p in data.probabilities.items()]
        for _ in range(300):
            try:
                oracle.names(random_query(rng).sql, predictions)
            except duckdb.Error:
                failed += 1
    assert failed <= 6
