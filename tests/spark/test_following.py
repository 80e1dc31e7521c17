"""A stream of Spark's says what the same rows say in one process."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rainpp
import rainpp.spark
from rainpp.errors import ArtifactError, DataError, ModelError, SettingsError
from rainpp.windows import Sliding, Tumbling
from tests.monitoring.test_additions import QUERIES
from tests.monitoring.test_elsewhere import SQL, cells_of, check_same
from tests.monitoring.world import arrow, make_rows, trained
from tests.spark import models

pytest.importorskip("pyspark", reason="PySpark is not installed")
if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
    pytest.skip("there is no Java", allow_module_level=True)

# PySpark 4.3 says of pandas 3 that it is too new; nothing here goes through pandas.
pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
    # The virtual machine is started by a fork, of which JAX warns; at once it becomes another
    # program.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

ROOT = Path(__file__).parents[2]
FACTORY = "tests.spark.models:load"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    models.save(trained(), path)
    return path


@pytest.fixture(scope="module")
def spark(folder):
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        # What workers see: they are started by the virtual machine, which is started here.
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv(models.FOLDER, str(folder))
        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.sql.session.timeZone", "Asia/Tokyo")
            .getOrCreate()
        )
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


class World:
    """Files that a stream reads, one micro-batch each, and monitors of them."""

    def __init__(self, spark, folder: Path, tmp_path: Path) -> None:
        self.spark, self.folder, self.tmp_path = spark, folder, tmp_path
        self.input = tmp_path / "input"
        self.input.mkdir()
        self.rows = make_rows(120, seed=2)

    def add(self, number: int, *, parts: int = 2, zone: str | None = None) -> None:
        """Another forty rows come, as so many files."""
        table = arrow(self.rows.iloc[40 * number : 40 * number + 40])
        times = table.column("t").cast(pa.timestamp("us", zone))
        table = table.set_column(table.column_names.index("t"), "t", times)
        size = -(-table.num_rows // parts)
        for part in range(parts):
            written = self.tmp_path / "part"
            pq.write_table(table.slice(part * size, size), written)
            written.rename(self.input / f"{number}-{part}.parquet")

    def stream(self):
        known = self.spark.read.parquet(str(self.input)).schema
        return self.spark.readStream.schema(known).parquet(str(self.input))

    def monitor(self, sql=SQL, **options):
        model, index = models.load_from(str(self.folder))
        settings = {"time": "t", "keep": "nothing", "window": Tumbling("30s"), **options}
        return rainpp.monitor("people", sql, model=model, index=index, **settings)

    def follow(self, monitor, model=FACTORY, **options):
        settings = {"checkpoint": self.tmp_path / "checkpoint", **options}
        return rainpp.spark.follow(self.stream(), monitor, model=model, **settings)

    def in_process(self, count, sql=SQL, **options):
        """Cells of the same rows, taken in here."""
        with self.monitor(sql, schema=arrow(self.rows).schema, **options) as monitor:
            for number in range(count):
                with monitor.batch(source="spark", upto=number) as batch:
                    batch.predictions(arrow(self.rows.iloc[40 * number : 40 * number + 40]))
            return cells_of(monitor)


@pytest.fixture
def world(spark, folder, tmp_path):
    return World(spark, folder, tmp_path)


@pytest.mark.slow
def test_a_stream_is_followed_over_a_restart(world):
    """The same numbers, and a new start goes on where the last one was."""
    store = world.tmp_path / "state.duckdb"
    world.add(0)
    with world.monitor(store=store) as monitor:
        following = world.follow(monitor)
        following.catch_up()
        following.stop()
        assert list(monitor.offsets.values()) == [0]
        check_same(cells_of(monitor), world.in_process(1))
    world.add(1)
    with world.monitor(store=store) as monitor:
        following = world.follow(monitor)
        following.catch_up()
        following.stop()
        assert monitor.offsets == {f"spark [{following.query.id}]": 1}
        check_same(cells_of(monitor), world.in_process(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "zone"), [("sums", None), ("by class", "UTC"), ("expression", "America/Lima")]
)
def test_queries_give_the_same_numbers(world, name, zone):
    options = {"window": Sliding("60s", "20s"), "lateness": "5s", "retention": "90s"}
    for number in range(2):
        world.add(number, parts=3, zone=zone)
    with world.monitor(QUERIES[name], **options) as monitor:
        load = partial(models.load_from, str(world.folder))
        following = world.follow(monitor, load, trigger={"availableNow": True})
        assert following.wait(120)
        spark = cells_of(monitor)
    # One micro-batch took all of it.
    with world.monitor(QUERIES[name], schema=arrow(world.rows).schema, **options) as here:
        with here.batch() as batch:
            batch.predictions(arrow(world.rows.iloc[:80]))
        check_same(spark, cells_of(here))


@pytest.mark.slow
def test_a_crash_after_the_commit_counts_once(world):
    """Dead between our commit and Spark's: the micro-batch comes again and does nothing."""
    store = world.tmp_path / "state.duckdb"
    world.add(0)

    def die(*_):
        raise RuntimeError("the power went")

    with world.monitor(store=store) as monitor:
        monitor.on("change", die)
        following = world.follow(monitor)
        with pytest.raises((RuntimeError, ExceptionGroup)):
            following.catch_up()
        assert list(monitor.offsets.values()) == [0]
    commits = world.tmp_path / "checkpoint" / "commits"
    assert not (commits / "0").exists()
    with world.monitor(store=store) as monitor:
        seq = monitor.changes()[-1].seq
        following = world.follow(monitor)
        following.catch_up()
        assert monitor.changes()[-1].seq == seq
        assert (commits / "0").exists()
        world.add(1)
        following.catch_up()
        following.stop()
        check_same(cells_of(monitor), world.in_process(2))


@pytest.mark.slow
def test_a_crash_before_the_commit_loses_nothing(world):
    store = world.tmp_path / "state.duckdb"
    world.rows.loc[7, "a"] = np.nan
    world.add(0)
    with world.monitor(store=store) as monitor:
        following = world.follow(monitor)
        with pytest.raises(DataError, match="NULL"):
            following.catch_up()
        with pytest.raises(DataError, match="NULL"):
            following.wait(30)
        assert monitor.offsets == {}
    # The source is mended; Spark reads the files of its unfinished micro-batch again.
    world.rows.loc[7, "a"] = 0.25
    world.add(0)
    with world.monitor(store=store) as monitor:
        following = world.follow(monitor)
        following.catch_up()
        following.stop()
        check_same(cells_of(monitor), world.in_process(1))


@pytest.mark.slow
def test_a_checkpoint_and_a_state_file_that_do_not_belong_together(world):
    store = world.tmp_path / "state.duckdb"
    world.add(0)
    with world.monitor(store=store) as monitor:
        following = world.follow(monitor)
        following.catch_up()
        following.stop()
        before = cells_of(monitor)
        # A new checkpoint would read the rows a second time.
        following = world.follow(monitor, checkpoint=world.tmp_path / "another")
        with pytest.raises(ArtifactError, match="from another stream"):
            following.catch_up()
        check_same(cells_of(monitor), before)
    world.add(1)
    with world.monitor() as fresh:  # and a new state would miss those of before
        following = world.follow(fresh)
        with pytest.raises(ArtifactError, match="further than the state"):
            following.catch_up()
        assert fresh.read().empty


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ("tests.spark.nowhere:load", SettingsError, "tests.spark.nowhere"),
        ("tests.spark.models:nothing", SettingsError, "no function `nothing`"),
        ("tests.spark.models:broken", ModelError, "OSError: the disk is gone"),
        ("tests.spark.models:forgetful", SettingsError, "gives a Model"),
        ("tests.spark.models:other", ArtifactError, "index"),
    ],
)
def test_a_model_that_no_worker_can_load_is_one_clear_error(world, model, error, said):
    world.add(0)
    with world.monitor() as monitor, pytest.raises(error, match=said) as raised:
        world.follow(monitor, model)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_bad_input_is_refused_before_the_stream_begins(world):
    world.add(0)
    stream = world.stream()
    schema = arrow(world.rows).schema
    settings = {"model": FACTORY, "checkpoint": world.tmp_path / "checkpoint"}
    with world.monitor(schema=schema) as monitor:
        for columns, said in (
            (stream.drop("region"), "no column `region`"),
            (stream.withColumn("amount", stream.region.isNull()), "was double"),
            (stream.withColumn("t", stream.amount), "was timestamp"),
        ):
            with pytest.raises(DataError, match=said):
                rainpp.spark.follow(columns, monitor, **settings)
        still = world.spark.read.parquet(str(world.input))
        with pytest.raises(SettingsError, match="does not stream"):
            rainpp.spark.follow(still, monitor, **settings)
        for wrong, said in (
            ({"model": "models.load"}, "module:function"),
            ({"model": 3}, "module:function"),
            ({"checkpoint": ""}, "`checkpoint`"),
            ({"source": ""}, "`source`"),
            ({"trigger": {"every": "day"}}, "trigger={'every': 'day'}"),
        ):
            with pytest.raises(SettingsError, match=said):
                rainpp.spark.follow(stream, monitor, **{**settings, **wrong})
        with pytest.raises(SettingsError, match="`monitor` is a str"):
            rainpp.spark.follow(stream, "monitor", **settings)
    with world.monitor(id="id") as monitor, pytest.raises(SettingsError, match="`id`"):
        rainpp.spark.follow(stream, monitor, **settings)
    assert not (world.tmp_path / "checkpoint").exists()


def test_what_is_no_stream_is_refused_without_spark(tmp_path):
    with pytest.raises(SettingsError, match="`stream` is a list"):
        rainpp.spark.follow([], None, model=FACTORY, checkpoint=tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rainpp.errors.NotAtOptimumWarning")
@pytest.mark.usefixtures("spark")
def test_every_example_of_the_page_prints_what_it_shows():
    page = ROOT / "docs" / "spark.md"
    text = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    example = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert len(example.examples) > 20
    said = []
    failed = doctest.DocTestRunner().run(example, out=said.append)
    assert failed.failed == 0, "".join(said)
