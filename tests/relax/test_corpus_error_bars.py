"""Sampled answers: a stated error of 95 % covers the truth at least as often."""

from __future__ import annotations

import random

import duckdb
import pytest

from rainpp.relax.nested import ladder
from tests.relax.corpus import judge
from tests.relax.corpus_runs import affordable
from tests.relax.corpus_schema import MODELS, random_data
from tests.relax.enumeration import Oracle


@pytest.fixture
def sampling(monkeypatch):
    """No query is exact: neither circuits nor enumeration are tried."""
    monkeypatch.setattr(ladder, "MAX_WORLDS", 0)
    monkeypatch.setattr(ladder.Ladder, "solved", lambda self, **_: self.by_worlds([]))


@pytest.mark.slow
@pytest.mark.usefixtures("sampling")
def test_error_bars_cover_the_truth():
    covered: list[bool] = []
    for seed in range(12):
        rng = random.Random(1000 + seed)
        data = random_data(rng)
        with data.open() as con:
            oracle = Oracle(con, MODELS)
            for query in affordable(rng, data, 8):
                try:
                    verdict = judge(con, oracle, data, query)
                except duckdb.Error:
                    continue
                assert verdict.status != "crash", (query.sql, verdict)
                covered += verdict.covered
    assert len(covered) >= 40
    assert sum(covered) >= 0.95 * len(covered)
