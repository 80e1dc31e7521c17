"""Batches of generated queries, for the quick tests and the long experiment alike."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from tests.relax.corpus import Verdict, asked, judge, refused_or_crashed
from tests.relax.corpus_certain import certain_differences
from tests.relax.corpus_schema import MODELS, Data, random_data
from tests.relax.enumeration import Oracle
from tests.relax.generator import Generated, num_worlds, random_query

MAX_WORLDS = 250


@dataclass(frozen=True)
class Outcome:
    """A query, its database and what became of it."""

    seed: int
    data: Data
    query: Generated
    verdict: Verdict


def described(outcome: Outcome) -> dict[str, object]:
    """A finding as plain data, enough to repeat it."""
    return {
        "seed": outcome.seed,
        "sql": outcome.query.sql,
        "cells": outcome.query.cells,
        "status": outcome.verdict.status,
        "detail": outcome.verdict.detail,
        "method": outcome.verdict.method,
        "setup": outcome.data.statements(),
        "probabilities": {".".join(s): p.tolist() for s, p in outcome.data.probabilities.items()},
    }


def enumerated(seed: int, count: int) -> list[Outcome]:
    """`count` queries over one small random database against their possible worlds."""
    rng = random.Random(seed)
    data = random_data(rng)
    return list(_judged(seed, data, affordable(rng, data, count), judge))


def certain(seed: int, count: int) -> list[Outcome]:
    """`count` queries over one larger database whose predictions are certain, against DuckDB."""
    rng = random.Random(seed)
    data = random_data(rng, largest=12, one_hot=True)
    queries = [random_query(rng) for _ in range(count)]
    return list(_judged(seed, data, queries, same_as_duckdb))


def affordable(rng: random.Random, data: Data, count: int) -> Iterator[Generated]:
    """`count` random queries of at most `MAX_WORLDS` worlds."""
    sizes = {slot: p.shape for slot, p in data.probabilities.items()}
    while count:
        query = random_query(rng)
        if num_worlds(query.sql, sizes) <= MAX_WORLDS:
            count -= 1
            yield query


def _judged(seed, data: Data, queries, check) -> Iterator[Outcome]:
    with data.open() as con:
        oracle = Oracle(con, MODELS)
        for query in queries:
            try:
                yield Outcome(seed, data, query, check(con, oracle, data, query))
            except duckdb.Error:
                continue  # a spelling DuckDB does not accept


def same_as_duckdb(
    con: duckdb.DuckDBPyConnection, oracle: Oracle, data: Data, query: Generated
) -> Verdict:
    """The one-hot law: the plain and the relaxed answer are DuckDB's, NULLs included."""
    predictions = [oracle.prediction(s, p) for s, p in data.probabilities.items()]
    rows = oracle.hard(query.sql, predictions)
    try:
        answer = asked(con, query.sql, data.probabilities)
        problem = next(certain_differences(answer, rows, query.cells), None)
    except Exception as failure:  # noqa: BLE001  a finding, unless it is a refusal
        return refused_or_crashed(failure)
    exact = "exact" if answer.method.startswith("exact") else "approximate"
    return Verdict("wrong" if problem else exact, problem or "", answer.method)
