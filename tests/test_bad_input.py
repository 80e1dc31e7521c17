"""Bad input from every side: one clear error of ours each, and nothing lost or half done."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import duckdb
import jax
import numpy as np
import pytest

import rainpp
from rainpp.adapters.training_file import read_training
from rainpp.complaint import Want
from rainpp.errors import (
    ArtifactError,
    ComplaintError,
    DataError,
    ModelError,
    QueryError,
    RainError,
    SettingsError,
    ShapeError,
    UnsupportedQueryError,
)
from rainpp.index import store
from tests.online import BY_REGION, COUNT, make_scene

ARGS = ["a", "b", "c", "d"]
FIVE = np.full((5, 2), 0.5)


@pytest.fixture(scope="module")
def shared():
    """One scene for everything that only asks, and so leaves it as it was."""
    scene = make_scene(k=4)
    result = scene.database.sql(BY_REGION)
    complaint = scene.database.sql(COUNT).complain("n", should="increase")
    return SimpleNamespace(
        scene=scene, database=scene.database, model=scene.problem.model, index=scene.index,
        result=result, complaint=complaint, ranking=complaint.rank(),
    )  # fmt: skip


def numbers(sql="CREATE TABLE t AS SELECT range AS x FROM range(5)"):
    connection = duckdb.connect()
    connection.execute(sql)
    return rainpp.connect(connection)


# --- connect ------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", [None, 3, b"x", ["a.duckdb"]])
def test_connect_to_what_is_no_path(database):
    with pytest.raises(DataError, match=r"`database` is .*path of a DuckDB file"):
        rainpp.connect(database)


def test_connect_to_a_directory_a_long_name_or_nowhere(tmp_path):
    with pytest.raises(DataError, match="is a directory"):
        rainpp.connect(tmp_path)
    with pytest.raises(DataError, match="too long"):
        rainpp.connect("x" * 5000)
    (tmp_path / "empty.duckdb").touch()
    for read_only in (True, False):
        with pytest.raises(DataError, match="as a DuckDB database"):
            rainpp.connect(tmp_path / "empty.duckdb", read_only=read_only)
    assert (tmp_path / "empty.duckdb").stat().st_size == 0
    with pytest.raises(SettingsError, match="`read_only` is 'yes'"):
        rainpp.connect(tmp_path, read_only="yes")


def test_a_file_another_process_writes_to_is_not_waited_for(tmp_path):
    path = tmp_path / "busy.duckdb"
    code = f"import duckdb; c = duckdb.connect({str(path)!r}); print(1, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        child.stdout.readline()
        with pytest.raises(DataError, match=r"lock.*End that process"):
            rainpp.connect(path)
    finally:
        child.communicate(b"\n", timeout=20)


def test_a_closed_connection_says_so(shared):
    connection = duckdb.connect()
    connection.close()
    with pytest.raises(DataError, match="connection is closed"):
        rainpp.connect(connection)
    database = numbers()
    database.register_predictions("p", table="t", probabilities=FIVE)
    database.connection.close()
    for attempt in (
        lambda: database.sql("SELECT count(*) AS n FROM t WHERE p(x) = 1"),
        lambda: database.register_predictions("p", table="t", probabilities=FIVE),
        lambda: database.register_model("q", shared.model, shared.index),
    ):
        with pytest.raises(DataError, match=r"closed; open it again with rainpp\.connect"):
            attempt()


def test_an_aborted_transaction_says_so():
    database = numbers()
    database.register_predictions("p", table="t", probabilities=FIVE)
    database.connection.execute("BEGIN")
    with pytest.raises(duckdb.Error):
        database.connection.execute("SELECT error('x') FROM t").fetchall()
    with pytest.raises(QueryError, match="ROLLBACK"):
        database.sql("SELECT count(*) AS n FROM t WHERE p(x) = 1")


def test_threads_that_share_a_database_get_their_own_answers():
    database = make_scene(k=4).database
    expected = {query: database.sql(query).relaxed() for query in (COUNT, BY_REGION)}
    wrong = []

    def ask(query):
        try:
            for _ in range(4):
                assert database.sql(query).relaxed().equals(expected[query])
        except Exception as problem:  # noqa: BLE001
            wrong.append(problem)

    threads = [threading.Thread(target=ask, args=(query,)) for query in [COUNT, BY_REGION] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- register_model -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, 3, b"p", ["p"], "select", "Case", "true", "between"])
def test_a_name_that_cannot_be_called_is_refused(shared, name):
    with pytest.raises(ModelError, match="`name` is"):
        shared.database.register_model(name, shared.model, shared.index)


@pytest.mark.parametrize("model", [None, "model.npz", lambda w, x: x @ w, rainpp.Model])
def test_what_is_no_model_is_refused(shared, model):
    with pytest.raises(ModelError, match=r"`model` is a .*rainpp\.Model is needed"):
        shared.database.register_model("p", model, shared.index)


@pytest.mark.parametrize("index", ["people.rain", 3, {}])
def test_what_is_no_index_is_refused(shared, index):
    with pytest.raises(ArtifactError, match=r"`index` is a .*rainpp\.load"):
        shared.database.register_model("p", shared.model, index)


@pytest.mark.parametrize("encode", ["shop:encode", 3, [abs]])
def test_what_is_no_function_is_refused(shared, encode):
    with pytest.raises(ModelError, match="`encode` is"):
        shared.database.register_model("p", shared.model, shared.index, encode=encode)


@pytest.mark.parametrize(
    "data", [3, (), (np.ones((80, 4)),), {}, {"inputs": 1, "labels": 2}, (1, 2, 3)]
)
def test_what_is_no_pair_of_rows_and_labels_is_refused(shared, data):
    with pytest.raises(DataError, match=r"`data` is a .*pair"):
        shared.database.register_model("p", shared.model, shared.index, data=data)


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        (3, DataError, "give a list"),
        ("abc", DataError, "give a list"),
        ({1, 2, 3}, DataError, "order of the outputs"),
        ({0: "a", 1: "b", 2: "c"}, DataError, "order of the outputs"),
        ([[1], [2], [3]], DataError, "not a mixture"),
        ([None, 1, 2], DataError, "not a mixture"),
        ([True, 0, 2], DataError, "not a mixture"),
        ([True, False, True], DataError, "own value"),
        ([1, 1.0, 2], DataError, "own value"),
        ([b"a", b"b", b"c"], DataError, "not a mixture"),
        ([1.0, float("nan"), 2.0], DataError, "holds nan.*finite"),
        ([1.0, float("inf"), 2.0], DataError, "holds inf.*finite"),
        ([2**70, 1, 2], DataError, "at most 64 bits"),
        (["a\0b", "b", "c"], DataError, "NUL"),
        (["a", "b"], ShapeError, "2 values .* 3 output classes"),
    ],
)
def test_classes_that_sql_cannot_hold_are_refused(shared, classes, error, words):
    with pytest.raises(error, match=words):
        shared.database.register_model("p", shared.model, shared.index, classes=classes)
    with pytest.raises(QueryError, match="no model"):
        shared.database.materialize("p", table="people", args=ARGS)


@pytest.mark.parametrize(
    "classes",
    [np.array(["a", "b", "c"]), [np.int64(7), 8, 9], iter("abc"), [1, 2.5, 3], ["a", "A", "'"]],
)
def test_classes_of_any_ordered_kind_are_read(shared, classes):
    shared.database.register_model("ordered", shared.model, shared.index, classes=classes)
    query = "SELECT ordered(a, b, c, d) AS k, count(*) AS n FROM people GROUP BY 1"
    assert shared.database.sql(query).df()["n"].sum() == 30


def test_names_that_differ_in_case_are_one_model(shared):
    database = make_scene(k=4).database
    database.register_model("Predict", shared.model, shared.index, classes=["x", "y", "z"])
    assert repr(database) == "Database(Predict)"
    result = database.sql("SELECT count(*) AS n FROM people WHERE PREDICT(a, b, c, d) = 'y'")
    assert list(result.gradient("n")) == [("Predict", "people")]


# --- register_predictions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "probabilities",
    [
        "x",
        [[0.5, 0.5]] * 4 + [[1.0]],
        FIVE.astype(complex),
        FIVE.astype(str),
        [["a", "b"]] * 5,
        np.ma.masked_array(FIVE, mask=np.eye(5, 2)),
        np.full((5, 2), None),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(probabilities):
    with pytest.raises(DataError, match="`probabilities`"):
        numbers().register_predictions("p", table="t", probabilities=probabilities)


@pytest.mark.parametrize("table", [None, 3, b"t", "", ".", "a.b.c.d", "t; DROP TABLE t", "t'"])
def test_what_is_no_table_is_refused(table):
    database = numbers()
    with pytest.raises((QueryError, UnsupportedQueryError)):
        database.register_predictions("p", table=table, probabilities=FIVE)
    assert repr(database) == "Database(no models)"


def test_a_column_called_rowid_is_refused_before_it_is_mistaken_for_row_ids():
    database = numbers("CREATE TABLE t AS SELECT 9 - range AS rowid FROM range(5)")
    with pytest.raises(UnsupportedQueryError, match="hides DuckDB's row id"):
        database.register_predictions("p", table="t", probabilities=FIVE)


def test_probabilities_are_stale_when_an_argument_of_the_call_was_edited():
    database = numbers("CREATE TABLE t AS SELECT range AS x, 'a' AS note FROM range(5)")
    database.register_predictions("p", table="t", probabilities=FIVE)
    query = "SELECT count(*) AS n FROM t WHERE p(x) = 0"
    database.connection.execute("UPDATE t SET note = 'b'")
    assert database.sql(query).df()["n"][0] == 5
    with pytest.raises(ArtifactError, match="has changed since register_predictions"):
        database.sql("SELECT count(*) AS n FROM t WHERE p(*) = 0")
    database.connection.execute("UPDATE t SET x = 7 WHERE x = 0")
    with pytest.raises(ArtifactError, match="has changed since register_predictions"):
        database.sql(query)


def test_probabilities_under_the_name_of_a_model_replace_all_of_it():
    database = make_scene(k=4).database
    database.sql(COUNT)
    database.connection.execute("CREATE TABLE t AS SELECT range AS x FROM range(5)")
    database.register_predictions("predict", table="t", probabilities=FIVE)
    with pytest.raises(QueryError, match="not for `people`"):
        database.sql(COUNT)


# --- materialize and the columns of a table -----------------------------------------------------


@pytest.mark.parametrize("args", [None, 3, "abcd", ["a", None, "c", "d"], [["a"], "b"], {"a": 1}])
def test_args_that_are_no_list_of_names(shared, args):
    with pytest.raises(QueryError, match="`args`"):
        shared.database.materialize("predict", table="people", args=args)


@pytest.mark.parametrize("name", [None, 3, "", "nobody"])
def test_materialising_for_a_model_that_is_not_there(shared, name):
    with pytest.raises(QueryError, match="no model"):
        shared.database.materialize(name, table="people", args=ARGS)


def test_a_view_that_chooses_rows_is_not_materialised():
    database = make_scene(k=4).database
    database.connection.execute("CREATE VIEW europeans AS FROM people WHERE region = 'EU'")
    with pytest.raises(UnsupportedQueryError, match="a view has no row ids"):
        database.materialize("predict", table="europeans", args=ARGS)


@pytest.mark.parametrize("name", ["no.parquet", "'no.parquet'", "no/*.csv", "a b.json"])
def test_a_file_that_is_not_there_is_not_materialised(shared, name):
    with pytest.raises(QueryError, match="No files found"):
        shared.database.materialize("predict", table=name, args=ARGS)


def test_materialising_never_writes_over_an_index_built_since(tmp_path):
    path = tmp_path / "people.rain"
    scene = make_scene(k=4, path=path)
    rainpp.precompute(
        scene.problem.model, scene.problem.inputs, scene.problem.labels, k=6, path=path
    )
    with pytest.raises(ArtifactError, match="holds another index"):
        scene.database.materialize("predict", table="people", args=ARGS)
    assert rainpp.load(path).k == 6


def test_two_sessions_keep_each_others_tables(tmp_path):
    path = tmp_path / "people.rain"
    scene = make_scene(k=4, path=path)
    scene.database.connection.execute("CREATE TABLE others AS FROM people")
    for table in ("people", "others"):
        session = rainpp.connect(scene.database.connection)
        session.register_model("predict", scene.problem.model, scene.index)
        session.materialize("predict", table=table, args=ARGS)
    entries = rainpp.load(path).manifest["inference"].values()
    assert {entry["table"] for entry in entries} == {"people", "others"}


def test_an_index_whose_directory_was_deleted_still_answers_and_is_written_again(tmp_path):
    path = tmp_path / "people.rain"
    scene = make_scene(k=4, path=path)
    complaint = scene.database.sql(COUNT).complain("n", should="increase")
    before = complaint.rank().top(3)
    shutil.rmtree(path)
    assert complaint.rank().top(3).equals(before)
    assert complaint.rank().refine(2).refined_steps == 2
    scene.database.materialize("predict", table="people", args=ARGS)
    assert rainpp.load(path).k == 4


@pytest.mark.parametrize("step", ["_write_array", "replace_file", "_remove_unused"])
def test_ctrl_c_while_materialising_leaves_a_whole_index(tmp_path, monkeypatch, step):
    path = tmp_path / "people.rain"
    scene = make_scene(k=4, path=path)
    with monkeypatch.context() as patch:
        patch.setattr(store, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            scene.database.materialize("predict", table="people", args=ARGS)
    assert rainpp.load(path).k == 4
    assert len(scene.database.sql(COUNT).complain("n", should="increase").rank().top(3)) == 3
    scene.database.materialize("predict", table="people", args=ARGS)
    assert rainpp.load(path).manifest["inference"]


def interrupted(*_, **__):
    raise KeyboardInterrupt


WEIGHTS = np.array([[1.0, -1.0]])


def one_column(kind, values, *, model=None, encode=None):
    database = numbers(f"CREATE TABLE t (x {kind})")
    database.connection.execute(f"INSERT INTO t VALUES {values}")
    flat = rainpp.Model(lambda w, x: x.reshape(x.shape[0], -1).astype(w.dtype) @ w, WEIGHTS)
    database.register_model("p", model or flat, encode=encode, classes=[0, 1])
    return database.sql("SELECT count(*) AS n FROM t WHERE p(x) = 0")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DECIMAL(10, 2)", "(1.25), (-1.25)"),
        ("HUGEINT", "(1), (-1)"),
        ("TINYINT", "(1), (-1)"),
        ("FLOAT[1]", "([1]), ([-1])"),
        ("FLOAT[1][1]", "([[1]]), ([[-1]])"),
        ("DECIMAL(4, 1)[]", "([1.5]), ([-1.5])"),
    ],
)
def test_numbers_of_every_type_are_read(kind, values):
    assert one_column(kind, values).df()["n"][0] == 1


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("DATE", "('2020-01-01')", "not numeric; pass encode="),
        ("UUID", "(gen_random_uuid())", "not numeric; pass encode="),
        ("VARCHAR", "('x')", "not numeric; pass encode="),
        ("BLOB", "('x')", "not numeric; pass encode="),
        ("STRUCT(a INT)", "({'a': 1})", "not numeric; pass encode="),
        ("MAP(INT, INT)", "(map {1: 2})", "not numeric; pass encode="),
        ("UNION(n INT, s VARCHAR)", "(1)", "no model can read"),
        ("FLOAT[]", "([1]), ([1, 2])", "different lengths"),
        ("FLOAT[][]", "([[1], [1, 2]]), ([[1, 2], [3]])", "different lengths"),
        ("FLOAT[]", "([1]), ([NULL])", "NULL inside"),
        ("FLOAT[2][2]", "([[1, 2], NULL]), ([[1, 2], [3, 4]])", "NULL inside"),
        ("FLOAT[][]", "([[1], NULL]), ([[1], [3]])", "NULL inside"),
        ("FLOAT[]", "([1]), (NULL)", "is NULL in 1 rows"),
        ("DOUBLE", "('nan')", "NaN"),
    ],
)
def test_columns_no_model_can_read_are_named(kind, values, words):
    with pytest.raises(DataError, match=rf"(`t\.x`|`inputs`).*{words}"):
        one_column(kind, values)


def fails(*_):
    raise KeyError("no such token")


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (fails, "`encode` fails on the columns x: KeyError: 'no such token'"),
        (lambda: 1, "`encode` fails.*positional argument"),
        (lambda x: None, "returned None"),  # noqa: ARG005
        (lambda x: x.astype(str), "type <U"),
        (lambda x: x.astype(object), "type object"),
        (lambda x: x.astype("datetime64[s]"), "type datetime64"),
        (lambda x: x.tolist(), "`inputs` holds a int"),
        (lambda x: (x * np.nan)[:, None], "NaN or infinity"),
        (lambda x: np.float64(x.sum()), "`inputs` holds a float64"),
        (lambda x: np.ones((len(x), 3)), "`apply` fails"),
        (lambda x: x[:1, None], "returned 1 rows for the 2 rows of `t`"),
    ],
)
def test_an_encoder_that_goes_wrong_is_named(encode, words):
    with pytest.raises((ModelError, ShapeError, DataError), match=words):
        one_column("INT", "(1), (2)", encode=encode)


def test_ctrl_c_in_an_encoder_leaves_nothing_behind():
    scene = make_scene(k=4)
    scene.database.register_model("slow", scene.problem.model, scene.index, encode=interrupted)
    with pytest.raises(KeyboardInterrupt):
        scene.database.sql("SELECT count(*) AS n FROM people WHERE slow(a, b, c, d) = 1")
    assert scene.database.sql(COUNT).df()["n"][0] >= 0


@pytest.mark.parametrize(
    "name",
    ['we"ird', "sp ace", "a.b", "日本", "x" * 200, "semi;colon", "sel'ect", "select", "new\nline"],
)
def test_any_name_of_a_table_and_a_column_works(shared, name):
    quoted = '"' + name.replace('"', '""') + '"'
    database = numbers(f"CREATE TABLE {quoted} AS SELECT range AS {quoted} FROM range(5)")
    database.register_model(
        "p", shared.model, shared.index, encode=lambda x: np.repeat(x[:, None] * 1.0, 4, axis=1)
    )
    database.materialize("p", table=name, args=[name])
    result = database.sql(
        f"SELECT p(t.{quoted}) AS {quoted}, count(*) AS n FROM {quoted} t GROUP BY 1"
    )
    assert len(result.complain("n", row=0, should="increase").rank().top(2)) == 2


# --- queries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [None, 3, b"SELECT 1", ["SELECT 1"]])
def test_a_query_that_is_no_text(shared, query):
    with pytest.raises(QueryError, match="`query` is"):
        shared.database.sql(query)


def test_a_query_nested_too_deeply_is_refused(shared):
    with pytest.raises(QueryError, match="nested too deeply"):
        shared.database.sql(f"{COUNT} AND a = {'(' * 2000}1{')' * 2000}")


def test_a_syntax_error_is_underlined(shared):
    with pytest.raises(QueryError) as caught:
        shared.database.sql("SELECT count(*) AS n\nFROM people\nWHERE predict(a, b, c, d) === 1")
    _, line, carets = str(caught.value).splitlines()
    assert line.strip() == "WHERE predict(a, b, c, d) === 1"
    assert line[carets.index("^")] == "="


# --- rows, columns and targets ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"row": 0, "where": {"region": "EU"}}, "not both"),
        ({"row": -1}, "out of range"),
        ({"row": "0"}, "`row` is '0'"),
        ({"row": 0.0}, "`row` is 0.0"),
        ({"row": True}, "`row` is True"),
        ({"row": [0]}, r"`row` is \[0\]"),
        ({"where": {}}, "3 rows match"),
        ({"where": "region"}, "`where` is 'region'"),
        ({"where": ["region"]}, "`where` is"),
        ({"where": {"region": None}}, "no row has"),
        ({"where": {"region": float("nan")}}, "no row has"),
        ({"where": {"region": ["EU"]}}, "no row has"),
        ({"where": {"region": {"a": []}}}, "no row has"),
        ({"where": {1: 2}}, "no column 1"),
        ({"where": {"region": "EU", "zz": 1}}, "no column 'zz'"),
    ],
)
def test_which_row_must_be_clear(shared, named, words):
    for attempt in (
        lambda: shared.result.gradient("n", **named),
        lambda: shared.result.complain("n", should="increase", **named),
    ):
        with pytest.raises(ComplaintError, match=words):
            attempt()


@pytest.mark.parametrize("column", [None, 3, ["n"], b"n", "N", "region", ""])
def test_which_column_must_be_clear(shared, column):
    with pytest.raises(ComplaintError, match="column"):
        shared.result.complain(column, row=0, should="increase")


@pytest.mark.parametrize(
    "target", [float("nan"), float("inf"), "12", "nan", b"12", True, [12], 10**400, 1j]
)
def test_a_target_must_be_one_finite_number(target):
    with pytest.raises(ComplaintError, match="`target`"):
        Want.of("equal", target)


# --- ranking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [None, 3, "n", [None], [3], []])
def test_only_complaints_are_ranked(shared, what):
    with pytest.raises(ComplaintError, match="`complaints`"):
        shared.database.rank(what)


def test_a_single_complaint_or_its_record_is_not_a_list_of_complaints(shared):
    for what in (shared.complaint, [shared.complaint.complaint], [shared.ranking], [shared.result]):
        with pytest.raises(ComplaintError, match="`complaints`"):
            shared.database.rank(what)


@pytest.mark.parametrize(
    "weights",
    [[float("nan")], ["x"], ["1"], "x", 3, [], [1, 2], [None], [-1], [10**400], [1j], [[1]], [0.0]],
)
def test_weights_must_be_numbers_that_count(shared, weights):
    with pytest.raises(ShapeError, match="`weights` is"):
        shared.database.rank([shared.complaint], weights=weights)


def test_complaints_of_two_models_or_two_indexes_do_not_add_up(shared):
    other = make_scene(k=4, seed=3).database.sql(COUNT).complain("n", should="increase")
    with pytest.raises(ComplaintError, match="different models"):
        shared.database.rank([shared.complaint, other])
    # The same model, other eigenvectors: from another start vector they differ in sign.
    problem, scene = shared.scene.problem, make_scene(k=4)
    again = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=4, seed=1)
    scene.database.register_model("predict", problem.model, again)
    turned = scene.database.sql(COUNT).complain("n", should="increase")
    with pytest.raises(ComplaintError, match="different indexes"):
        shared.database.rank([shared.complaint, turned])
    same = make_scene(k=4).database.sql(COUNT).complain("n", should="increase")
    assert len(shared.database.rank([shared.complaint, same]).top(3)) == 3


@pytest.mark.parametrize("steps", [-1, 1.5, True])
def test_refine_takes_whole_steps(shared, steps):
    with pytest.raises(SettingsError, match="`steps` is"):
        shared.complaint.rank().refine(steps)


# --- verify -------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [0, -1, True, "x", 1.5, [1], float("nan")])
def test_verify_applies_a_whole_number(shared, top):
    with pytest.raises(SettingsError, match="`top` is"):
        rainpp.verify(shared.ranking, fit=same_weights(shared), top=top)


def test_verify_with_more_than_there_is_applies_every_row_once(shared):
    proof = rainpp.verify(shared.ranking, fit=same_weights(shared), top=10**6)
    assert len(proof.applied) == 80


def same_weights(shared):
    return lambda inputs, labels: shared.model.params  # noqa: ARG005


@pytest.mark.parametrize("what", [None, 3, "ranking"])
def test_verify_takes_a_ranking_and_a_function(shared, what):
    with pytest.raises(SettingsError, match="`ranking` is"):
        rainpp.verify(what, fit=same_weights(shared), top=1)
    with pytest.raises(SettingsError, match="`fit` is"):
        rainpp.verify(shared.ranking, fit=what, top=1)


def no_memory(_, labels):
    raise MemoryError(f"{len(labels)} rows")


OTHERS = {
    "classes": lambda: rainpp.Model(lambda w, x: x @ w, np.ones((4, 5))),
    "inputs": lambda: rainpp.Model(lambda w, x: x @ w, np.ones((7, 3))),
    "task": lambda: rainpp.Model(lambda w, x: x @ w, np.ones((4, 3)), loss="squared_error"),
}


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        (no_memory, r"`fit` fails: MemoryError: \d\d rows"),
        (lambda inputs: inputs, "`fit` fails: TypeError"),
        (lambda x, y: 3, "structure"),  # noqa: ARG005
        (lambda x, y: rainpp.Model, "structure"),  # noqa: ARG005
        (lambda x, y: OTHERS["classes"](), "5 multiclass outputs.*has 3"),  # noqa: ARG005
        (lambda x, y: OTHERS["inputs"](), "`apply` fails"),  # noqa: ARG005
        (lambda x, y: OTHERS["task"](), "3 regression outputs"),  # noqa: ARG005
    ],
)
def test_a_fit_that_goes_wrong_is_named(shared, fit, words):
    with pytest.raises(ModelError, match=words):
        rainpp.verify(shared.ranking, fit=fit, top=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda a: a[:1], "shape"), (lambda a: a * np.nan, "NaN or infinity")],
)
def test_weights_that_do_not_fit_are_named(shared, change, words):
    def fit(*_):
        return jax.tree.map(change, shared.model.params)

    with pytest.raises(ModelError, match=words):
        rainpp.verify(shared.ranking, fit=fit, top=2)


def test_a_fit_that_writes_into_its_rows_harms_nobody(shared):
    before = shared.index.training.fingerprint

    def fit(inputs, labels):
        inputs[:], labels[:] = 0, 0
        return shared.model.params

    rainpp.verify(shared.ranking, fit=fit, top=2)
    kept = shared.index.training
    assert type(kept)(kept.inputs, kept.labels, kept.ids, kept.weights).fingerprint == before


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM people WHERE rowid < 5",
        "UPDATE people SET a = a + 1",
        "INSERT INTO people FROM people LIMIT 2",
        "UPDATE people SET region = 'EU'",
    ],
)
def test_verify_never_compares_with_a_database_that_changed(change):
    scene = make_scene(k=4)
    result = scene.database.sql(BY_REGION)
    ranking = result.complain("n", where={"region": "EU"}, should="increase").rank()
    scene.database.connection.execute(change)
    with pytest.raises(DataError, match="has changed since"):
        rainpp.verify(ranking, fit=lambda x, y: scene.problem.model.params, top=2)  # noqa: ARG005


# --- files of training rows -------------------------------------------------------------------


def test_a_flipped_byte_in_a_training_file_is_read_or_named(tmp_path):
    file, rng = tmp_path / "rows.npz", np.random.default_rng(0)
    np.savez_compressed(file, inputs=np.ones((3, 2)), labels=np.zeros(3, int))
    whole = file.read_bytes()
    refusals: list[str] = []
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            read_training(file)
        except DataError as problem:
            refusals.append(str(problem))
    assert all("rows.npz" in message for message in refusals)
    assert len(refusals) > 100  # zip headers hold bytes nobody reads; what they guard is checked


# --- the database file --------------------------------------------------------------------------


def test_a_database_file_is_never_written_to(tmp_path):
    path, scene = tmp_path / "sp ace.duckdb", make_scene(k=4, path=tmp_path / "people.rain")
    with duckdb.connect(str(path)) as connection:
        frame = scene.database.connection.sql("FROM people").to_arrow_table()
        connection.register("frame", frame)
        connection.execute("CREATE TABLE people AS FROM frame")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with rainpp.connect(path) as database:
        database.register_model("predict", scene.problem.model, scene.index)
        database.materialize("predict", table="people", args=ARGS)
        database.sql(BY_REGION).complain("n", row=0, should="increase").rank().refine(2)
        for statement in (
            "INSERT INTO people FROM people",
            "COPY people TO 'x.csv'",
            "ATTACH 'y.duckdb'",
            "PRAGMA database_list",
            f"{COUNT}; DROP TABLE people",
            f"CREATE TABLE z AS {COUNT}",
        ):
            with pytest.raises(RainError):
                database.sql(statement)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["people.rain", "sp ace.duckdb"]
    assert json.loads((tmp_path / "people.rain" / "manifest.json").read_bytes())["inference"]
