"""From SQL to a ranking, against the exact inverse of a dense Hessian."""

import re

import duckdb
import numpy as np
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.errors import (
    ArtifactError,
    ComplaintError,
    DataError,
    ModelError,
    QueryError,
    RainError,
    ShapeError,
)
from tests import oracles
from tests.online import BY_REGION, COUNT, make_scene


def exact_deletions(scene, chosen):
    problem = scene.problem
    hessian = oracles.dense_hessian(problem.model, problem.inputs, problem.labels)
    gradients = oracles.row_gradients(problem.model, problem.inputs, problem.labels)
    gradient = scene.count_gradient(chosen)
    return gradients @ np.linalg.solve(hessian, gradient) / len(problem.labels)


@pytest.mark.parametrize("materialized", [False, True])
@pytest.mark.parametrize(("should", "sign"), [("increase", 1), ("decrease", -1)])
def test_all_eigenpairs_give_exact_influence_on_the_sql_cell(materialized, should, sign):
    scene = make_scene(materialized=materialized)
    chosen = scene.regions == "EU"
    complaint = scene.database.sql(BY_REGION).complain("n", where={"region": "EU"}, should=should)
    effects = complaint.rank().effects[:80]
    assert_allclose(effects, sign * exact_deletions(scene, chosen), rtol=1e-7, atol=1e-12)


def test_the_relaxed_cell_is_the_models_own_expectation():
    scene = make_scene()
    complaint = scene.database.sql(COUNT).complain("n", should="increase")
    everybody = np.ones(30, bool)
    theta = scene.problem.model.theta
    assert complaint.complaint.relaxed == pytest.approx(
        float(scene.count_of(theta, everybody)), rel=1e-12
    )
    assert_allclose(
        complaint.parameter_gradient(), scene.count_gradient(everybody), rtol=1e-9, atol=1e-12
    )


def test_hard_answer_is_the_count_of_winning_classes():
    scene = make_scene()
    winners = scene.problem.model.probabilities(scene.features).argmax(axis=1)
    expected = [
        (region, int(np.sum((winners == 1) & (scene.regions == region))))
        for region in ("ASIA", "EU", "US")
    ]
    frame = scene.database.sql(BY_REGION).df()
    assert list(frame.itertuples(index=False, name=None)) == [e for e in expected if e[1]]


def test_the_vector_alone_gives_the_same_ranking(tmp_path):
    scene = make_scene(k=6, path=tmp_path / "people.rain")
    complaint = scene.database.sql(COUNT).complain("n", should="decrease")
    vector = complaint.vector()
    elsewhere = rainpp.load(tmp_path / "people.rain").rank(vector)
    assert vector.shape == (6,)
    assert np.array_equal(elsewhere.scores, complaint.rank().scores)
    assert np.isnan(elsewhere.coverage)
    with pytest.raises(RainError, match="a vector of k numbers alone"):
        elsewhere.refine()


def test_materialised_predictions_change_no_score(tmp_path):
    path = tmp_path / "people.rain"
    lazy = make_scene(k=6).database.sql(COUNT).complain("n", should="increase").rank()
    stored = make_scene(k=6, path=path, materialized=True)
    ranking = stored.database.sql(COUNT).complain("n", should="increase").rank()
    assert_allclose(ranking.scores, lazy.scores, rtol=1e-9)
    # They are on disk now: a second process opens them instead of projecting again.
    names = [name for name in rainpp.load(path).arrays if name.startswith("inference-")]
    assert len(names) == 3


def test_coverage_is_the_captured_share_of_the_gradient():
    everything = make_scene(k=15).database.sql(COUNT).complain("n", should="increase").rank()
    scene = make_scene(k=4)
    complaint = scene.database.sql(COUNT).complain("n", should="increase")
    gradient = scene.count_gradient(np.ones(30, bool))
    captured = np.asarray(scene.index.eigenvectors) @ gradient
    expected = captured @ captured / (gradient @ gradient)
    # 15 parameters but 12 directions matter: adding a constant to all logits changes nothing.
    assert everything.coverage == pytest.approx(1.0, abs=1e-9)
    assert 0 < expected < 0.999
    assert complaint.rank().coverage == pytest.approx(expected, rel=1e-6)


def test_refining_reaches_the_exact_effects():
    scene = make_scene(k=4)
    ranking = scene.database.sql(COUNT).complain("n", should="decrease").rank()
    exact = -exact_deletions(scene, np.ones(30, bool))
    rough = np.abs(ranking.effects[:80] - exact).max()
    ranking.refine(steps=15)
    assert rough > 1e-3 * np.abs(exact).max()
    assert_allclose(ranking.effects[:80], exact, rtol=1e-5, atol=1e-9)
    assert re.search(
        r"\(refined \d+ steps in .*, residual 0.39 -> .*e-1\d, effects moved by 0.0%", repr(ranking)
    )
    assert ranking.refined_steps < 15  # what is solved is not solved again


def test_a_target_decides_the_direction_by_the_hard_value():
    scene = make_scene()
    result = scene.database.sql(COUNT)
    hard = float(result.df()["n"][0])
    increase = result.complain("n", should="increase").rank()
    for should, target, sign in [
        ("equal", hard + 2, 1),
        ("equal", hard - 2, -1),
        ("at_least", hard + 1, 1),
        ("at_most", hard - 1, -1),
    ]:
        ranking = result.complain("n", should=should, target=target).rank()
        assert_allclose(ranking.effects, sign * increase.effects, rtol=1e-12)


@pytest.mark.parametrize(
    ("should", "offset"), [("equal", 0), ("at_least", 0), ("at_least", -3), ("at_most", 5)]
)
def test_a_complaint_that_already_holds_is_refused(should, offset):
    result = make_scene().database.sql(COUNT)
    hard = float(result.df()["n"][0])
    with pytest.raises(ComplaintError, match="already holds"):
        result.complain("n", should=should, target=hard + offset)


@pytest.mark.filterwarnings("ignore:two complaints fight")
def test_several_complaints_weigh_the_same_unless_told_otherwise():
    scene = make_scene(k=6)
    result = scene.database.sql(BY_REGION)
    one = result.complain("n", where={"region": "EU"}, should="increase")
    two = result.complain("n", where={"region": "US"}, should="decrease")
    both = scene.database.rank([one, two])
    norms = [np.linalg.norm(item.vector()) for item in (one, two)]
    expected = sum(
        item.rank().effects * np.mean(norms) / norm / 2
        for item, norm in zip((one, two), norms, strict=True)
    )
    assert_allclose(both.effects, expected, rtol=1e-9, atol=1e-15)
    weighted = scene.database.rank([one, two], weights=[1.0, 0.0])
    assert_allclose(weighted.effects, one.rank().effects, rtol=1e-12)
    assert_allclose(scene.database.rank([one]).effects, one.rank().effects, rtol=1e-12)


def test_combining_needs_complaints_and_weights_that_fit():
    scene = make_scene(k=4)
    complaint = scene.database.sql(COUNT).complain("n", should="increase")
    with pytest.raises(ComplaintError, match="empty"):
        scene.database.rank([])
    with pytest.raises(ShapeError, match="one finite number for each of 1"):
        scene.database.rank([complaint], weights=[1.0, 2.0])


def test_relabels_carry_the_sql_value_of_the_class():
    scene = make_scene(k=4)
    names = ["low", "mid", "high"]
    scene.database.register_model("predict", scene.problem.model, scene.index, classes=names)
    query = "SELECT count(*) AS n FROM people WHERE predict(a, b, c, d) = 'mid'"
    top = scene.database.sql(query).complain("n", should="increase").rank().top(30)
    relabels = top[top.intervention == "relabel"]
    assert set(relabels.detail) <= set(names)
    assert top[top.intervention == "delete"].detail.isna().all()
    assert len(relabels)


@pytest.mark.parametrize("call", ["predict(*)", "predict(people)", "predict(p.*)", "predict(p)"])
def test_a_row_reference_reads_the_materialised_columns(call):
    scene = make_scene(k=4, materialized=True)
    alias = "people" if "people" in call else "people p"
    result = scene.database.sql(f"SELECT count(*) AS n FROM {alias} WHERE {call} = 1")
    assert result.df().equals(scene.database.sql(COUNT).df())
    assert list(result.gradient("n")) == [("predict", "people")]


def test_a_cell_no_prediction_moves_cannot_be_complained_about():
    scene = make_scene(k=4)
    query = (
        "SELECT region, count(*) AS people, sum(predict(a, b, c, d)) AS s "
        "FROM people GROUP BY region"
    )
    result = scene.database.sql(query)
    with pytest.raises(ComplaintError, match=r"does not depend on any prediction.*: s\."):
        result.complain("people", row=0, should="increase")
    assert len(result.complain("s", row=0, should="increase").rank())


# --- probabilities without a model ----------------------------------------------------------------


def make_digits(rows=6):
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE digits AS SELECT range AS image FROM range({rows})")
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), rows)
    return rainpp.connect(connection), probabilities


def test_probabilities_are_enough_to_query_complain_and_differentiate():
    database, probabilities = make_digits()
    database.register_predictions("predict", table="digits", probabilities=probabilities)
    result = database.sql("SELECT count(*) AS n FROM digits WHERE predict(image) = 2")
    gradient = result.gradient("n")
    expected = np.zeros((6, 3))
    expected[:, 2] = 1
    assert list(gradient) == [("predict", "digits")]
    assert_allclose(gradient["predict", "digits"], expected)
    assert result.relaxed()["n"][0] == pytest.approx(probabilities[:, 2].sum())
    complaint = result.complain("n", should="increase")
    with pytest.raises(RainError, match="probabilities only"):
        complaint.rank()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:-1], "has 6 rows"),
        (lambda p: p[0], r"shape \(3,\)"),
        (lambda p: np.where(np.arange(18).reshape(6, 3) == 7, np.nan, p), "row 2"),
        (lambda p: p * 1.1, "sum to 1"),
        (lambda p: p - 0.5, ">= 0"),
    ],
)
def test_what_is_not_a_probability_is_refused(change, message):
    database, probabilities = make_digits()
    with pytest.raises((ShapeError, DataError), match=message):
        database.register_predictions(
            "predict", table="digits", probabilities=change(probabilities)
        )


def test_another_table_needs_its_own_probabilities():
    database, probabilities = make_digits()
    database.register_predictions("predict", table="digits", probabilities=probabilities)
    database.connection.execute("CREATE TABLE letters AS SELECT 1 AS image")
    with pytest.raises(QueryError, match="not for `letters`"):
        database.sql("SELECT count(*) AS n FROM letters WHERE predict(image) = 1")


# --- what can be wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO people SELECT * FROM people LIMIT 1",
        "DELETE FROM people WHERE rowid = 3",
        "UPDATE people SET b = b + 1 WHERE rowid = 3",
    ],
)
def test_a_changed_table_is_never_answered_from_old_predictions(change):
    stale = make_scene(k=4, materialized=True).database
    stale.connection.execute(change)
    with pytest.raises(ArtifactError, match=r"has changed since materialize"):
        stale.sql(COUNT)
    lazy = make_scene(k=4)
    lazy.database.sql(COUNT)
    lazy.database.connection.execute(change)
    rows = lazy.database.connection.execute("SELECT a, b, c, d FROM people ORDER BY rowid")
    fresh = lazy.problem.model.probabilities(np.array(rows.fetchall()))
    assert lazy.database.sql(COUNT).relaxed()["n"][0] == pytest.approx(fresh[:, 1].sum())


def test_an_edit_of_a_column_the_model_does_not_read_is_no_change():
    scene = make_scene(k=4, materialized=True)
    scene.database.connection.execute("UPDATE people SET region = 'EU'")
    assert list(scene.database.sql(BY_REGION).df()["region"]) == ["EU"]


def test_null_in_a_model_argument_is_refused():
    scene = make_scene(k=4)
    scene.database.connection.execute("UPDATE people SET c = NULL WHERE rowid = 4")
    with pytest.raises(DataError, match=r"`people.c` is NULL in 1 rows"):
        scene.database.sql(COUNT)


def test_an_index_for_other_weights_is_refused():
    scene, other = make_scene(k=4), make_scene(k=4, seed=7)
    with pytest.raises(ArtifactError, match="built for other weights"):
        scene.database.register_model("predict", scene.problem.model, other.index)


def test_training_data_of_another_order_is_refused():
    scene = make_scene(k=4)
    data = (scene.problem.inputs[::-1], scene.problem.labels[::-1])
    with pytest.raises(ArtifactError, match="other training data"):
        scene.database.register_model("predict", scene.problem.model, scene.index, data=data)


@pytest.mark.parametrize("name", ["count", "my model", "", "1st"])
def test_a_name_sql_cannot_use_is_refused(name):
    scene = make_scene(k=4)
    with pytest.raises(ModelError, match="`name` is"):
        scene.database.register_model(name, scene.problem.model, scene.index)


@pytest.mark.parametrize(
    ("classes", "error"),
    [([0, 1], ShapeError), (["a", "a", "b"], DataError), (["a", 1, 2], DataError)],
)
def test_classes_must_name_every_output_once(classes, error):
    scene = make_scene(k=4)
    with pytest.raises(error, match="`classes`"):
        scene.database.register_model("predict", scene.problem.model, scene.index, classes=classes)


def test_an_encoder_that_loses_rows_is_refused():
    scene = make_scene(k=4)
    scene.database.register_model(
        "predict",
        scene.problem.model,
        scene.index,
        encode=lambda *columns: np.stack(columns, axis=-1)[:-1],
    )
    with pytest.raises(ShapeError, match="returned 29 rows for the 30 rows"):
        scene.database.sql(COUNT)


@pytest.mark.parametrize(
    ("table", "args", "message"),
    [
        ("nobody", ["a"], "there is no table"),
        ("people", ["z"], "no column `z`"),
        ("people", [], "`args` is empty"),
    ],
)
def test_materialising_what_is_not_there(table, args, message):
    with pytest.raises(QueryError, match=message):
        make_scene(k=4).database.materialize("predict", table=table, args=args)


def test_an_empty_table_has_an_answer_but_nothing_to_materialise():
    scene = make_scene(k=4)
    scene.database.connection.execute("DELETE FROM people")
    assert scene.database.sql(COUNT).df()["n"][0] == 0
    with pytest.raises(DataError, match="no rows to materialise"):
        scene.database.materialize("predict", table="people", args=["a", "b", "c", "d"])


def test_names_of_tables_and_columns_are_matched_as_duckdb_does():
    scene = make_scene(k=4)
    connection = scene.database.connection
    connection.execute('CREATE SCHEMA "odd one"')
    connection.execute('CREATE TABLE "odd one"."my.people" AS FROM people')
    scene.database.materialize("predict", table='"odd one"."my.people"', args=["A", "B", "c", "d"])
    query = 'SELECT count(*) AS n FROM "odd one"."my.people" WHERE predict(a, b, c, d) = 1'
    result = scene.database.sql(query)
    assert list(result.df()["n"]) == list(scene.database.sql(COUNT).df()["n"])
    assert len(result.complain("n", should="increase").rank().top(3)) == 3


def test_files_are_opened_read_only_and_must_exist(tmp_path):
    with pytest.raises(DataError, match="no database file"):
        rainpp.connect(tmp_path / "none.duckdb")
    (tmp_path / "text.duckdb").write_text("not a database, only text " * 100)
    with pytest.raises(DataError, match="as a DuckDB database"):
        rainpp.connect(tmp_path / "text.duckdb")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x")
    database = rainpp.connect(tmp_path / "shop.duckdb")
    with database, pytest.raises(duckdb.Error, match="read-only"):
        database.connection.execute("DROP TABLE t")


def test_an_unknown_mode_or_word_is_named():
    scene = make_scene(k=4)
    with pytest.raises(QueryError, match="`mode` is 'soft'"):
        scene.database.sql(COUNT, mode="soft")
    result = scene.database.sql(BY_REGION)
    with pytest.raises(ComplaintError, match="`should` is 'grow'"):
        result.complain("n", row=0, should="grow")
    with pytest.raises(ComplaintError, match="MARS"):
        result.complain("n", where={"region": "MARS"}, should="increase")
    with pytest.raises(ComplaintError, match="no column 'm'"):
        result.complain("m", row=0, should="increase")
    with pytest.raises(ComplaintError):
        result.complain("n", should="increase")  # three rows, none named


def test_reprs_say_what_things_are():
    scene = make_scene(k=4)
    result = scene.database.sql(COUNT)
    complaint = result.complain("n", should="increase")
    assert repr(scene.database) == "Database(predict)"
    assert "exact" in repr(result)
    assert "`n` is" in repr(complaint)
    assert "should increase" in repr(complaint)
    assert "240 interventions" in repr(complaint.rank())
    assert "<table" in complaint.rank()._repr_html_()
