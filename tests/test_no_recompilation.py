"""After warm-up a query of a new shape, its complaint and its ranking compile nothing."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import pytest

from tests.online import COUNT, make_scene

NEW = {
    "a condition": "SELECT count(*) AS n FROM people WHERE predict(a, b, c, d) <> 1 AND a > 0",
    "a group key": (
        "SELECT region, count(*) AS n FROM people WHERE predict(a, b, c, d) = 1 GROUP BY region "
        "ORDER BY region"
    ),
    "a predicted key": (
        "SELECT predict(a, b, c, d) AS label, sum(a) AS n FROM people GROUP BY label ORDER BY label"
    ),
    "an average": "SELECT avg(b) AS n FROM people WHERE predict(a, b, c, d) = 1 AND region = 'EU'",
    "a class join": (
        "SELECT count(*) AS n FROM people x JOIN people y ON x.region = y.region "
        "WHERE predict(x.a, x.b, x.c, x.d) = predict(y.a, y.b, y.c, y.d)"
    ),
    "an inequality": (
        "SELECT count(*) AS n FROM people x, people y WHERE x.a < y.a "
        "AND predict(x.a, x.b, x.c, x.d) = predict(y.a, y.b, y.c, y.d)"
    ),
    "an arithmetic cell": (
        "SELECT 2 * count(*) FILTER (WHERE predict(a, b, c, d) = 0) + 1 AS n FROM people "
        "WHERE d < 1 OR predict(a, b, c, d) = 1"
    ),
}


@pytest.fixture(params=[True, False], ids=["materialised", "not materialised"])
def warm(request):
    scene = make_scene(k=8, materialized=request.param)
    complain(scene.database, COUNT)
    return scene.database


def complain(database, sql):
    result = database.sql(sql)
    return result.complain(column="n", row=0, should="decrease").rank().top(10)


def compiled(caplog):
    return [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]


@pytest.mark.parametrize("sql", NEW.values(), ids=NEW)
def test_a_new_query_compiles_nothing(warm, sql, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        assert len(complain(warm, sql))
    assert compiled(caplog) == []


def test_the_log_does_show_what_is_compiled(caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.jit(lambda x: jnp.sin(x) + 123.0)(jnp.arange(7.0))
    assert compiled(caplog)
