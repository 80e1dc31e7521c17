"""Databases that run portable SQL: each takes the tables of a DuckDB connection and queries.

`load(name, table)` makes a table from an Arrow table; `run(sql)` gives rows as tuples.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import importlib.util
import io
import math
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import warnings
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from rainpp.relax.catalog import quote

NAMES = ("duckdb", "sqlite", "datafusion", "postgres", "spark")


def why_missing(name):
    """Why a database cannot be tested here; None if it can."""
    if name in ("datafusion", "pyspark") and importlib.util.find_spec(name) is None:
        return f"the package {name} is not installed"
    if name == "spark":
        return why_missing("pyspark") or (None if shutil.which("java") else "there is no java")
    if name == "postgres":
        missing = [tool for tool in ("initdb", "pg_ctl", "psql") if shutil.which(tool) is None]
        return f"{', '.join(missing)} not found" if missing else None
    if name == "sqlite":
        with contextlib.closing(sqlite3.connect(":memory:")) as con:
            try:
                con.execute("SELECT LN(1), EXP(0)")
            except sqlite3.OperationalError:
                return "this SQLite has no LN and EXP"
    return None


@contextlib.contextmanager
def engine(name):
    """A running database; the test is skipped if there is none."""
    reason = why_missing(name)
    if reason:
        pytest.skip(reason)
    made = {
        "duckdb": DuckDb,
        "sqlite": Sqlite,
        "datafusion": DataFusion,
        "postgres": Postgres,
        "spark": Spark,
    }[name]()
    try:
        yield made
    finally:
        made.close()


class Embedded:
    """A database in this process, behind a connection `con`."""

    def run(self, sql):
        return self.con.execute(sql).fetchall()

    def close(self):
        self.con.close()


class DuckDb(Embedded):
    dialect = "duckdb"

    def __init__(self):
        self.con = duckdb.connect()

    def load(self, name, table):
        self.con.register("arriving", table)
        self.con.execute(f"CREATE OR REPLACE TABLE {quote(name)} AS SELECT * FROM arriving")
        self.con.unregister("arriving")


class Sqlite(Embedded):
    dialect = "sqlite"

    def __init__(self):
        self.con = sqlite3.connect(":memory:")

    def load(self, name, table):
        kinds = ", ".join(f"{quote(f.name)} {_sqlite_type(f.type)}" for f in table.schema)
        self.con.execute(f"DROP TABLE IF EXISTS {quote(name)}")
        self.con.execute(f"CREATE TABLE {quote(name)} ({kinds})")
        marks = ", ".join("?" * table.num_columns)
        rows = zip(*(map(_plain, column.to_pylist()) for column in table.columns), strict=True)
        self.con.executemany(f"INSERT INTO {quote(name)} VALUES ({marks})", rows)


class DataFusion:
    dialect = "datafusion"

    def __init__(self):
        from datafusion import SessionContext

        self.con = SessionContext()

    def load(self, name, table):
        if self.con.table_exist(quote(name)):
            self.con.deregister_table(quote(name))
        self.con.register_record_batches(quote(name), [table.to_batches() or _no_rows(table)])

    def run(self, sql):
        found = self.con.sql(sql).to_arrow_table()
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def close(self):
        pass


class Postgres:
    """A server of its own in a temporary folder, reached through a socket there."""

    dialect = "postgres"

    def __init__(self):
        # A short path: names of Unix sockets end at 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        # Postgres refuses to run as root.
        self.user = _other_user() if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        data = self.folder / "data"
        self._call("initdb", "-D", data, "-U", "rain", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        log = self.folder / "log"
        self._call("pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "start")

    def load(self, name, table):
        kinds = ", ".join(f"{quote(f.name)} {_postgres_type(f.type)}" for f in table.schema)
        self._psql(f"DROP TABLE IF EXISTS {quote(name)}; CREATE TABLE {quote(name)} ({kinds})")
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        text = "".join("\t".join(map(_copied, row)) + "\n" for row in rows)
        self._psql(f"COPY {quote(name)} FROM STDIN;\n{text}\\.\n")

    def run(self, sql):
        text = self._psql(f"COPY ({sql}) TO STDOUT (FORMAT csv, NULL '<null>')")
        return [tuple(map(_read, row)) for row in csv.reader(io.StringIO(text))]

    def close(self):
        self._call("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def _psql(self, sql):
        return self._call(
            *("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-U", "rain"),
            *("-d", "postgres", "-f", "-"),
            text=sql,
        )

    def _call(self, *command, text=""):
        # A server started by pg_ctl would keep a pipe open: output goes to a file.
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run(
                [str(part) for part in command],
                input=text,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                cwd=self.folder,
                user=self.user and self.user.pw_uid,
                group=self.user and self.user.pw_gid,
                extra_groups=[] if self.user else None,
                timeout=120,
            )
            out.seek(0)
            printed = out.read()
        assert done.returncode == 0, printed
        return printed


class Spark:
    dialect = "spark"

    def __init__(self):
        from pyspark.sql import SparkSession

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.con = (
                SparkSession.builder.master("local[2]")
                .config("spark.ui.enabled", "false")
                .config("spark.sql.shuffle.partitions", "2")
                .config("spark.driver.bindAddress", "127.0.0.1")
                .config("spark.driver.host", "127.0.0.1")
                .getOrCreate()
            )
            self.con.sparkContext.setLogLevel("OFF")

    def load(self, name, table):
        from pyspark.sql import types

        kinds = [
            types.StructField(f.name, getattr(types, _spark_type(f.type))(), True)
            for f in table.schema
        ]
        rows = list(zip(*(map(_plain, c.to_pylist()) for c in table.columns), strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = self.con.createDataFrame(rows, types.StructType(kinds))
            frame.createOrReplaceTempView(name)

    def run(self, sql):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [tuple(row) for row in self.con.sql(sql).collect()]

    def close(self):
        self.con.stop()


def _other_user():
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("Postgres refuses to run as root, and there is no user `postgres` or `nobody`")
    return None


def _no_rows(table):
    return [pa.RecordBatch.from_pylist([], schema=table.schema)]


def _sqlite_type(kind):
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "INTEGER"
    return "REAL" if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else "TEXT"


def _postgres_type(kind):
    if pa.types.is_integer(kind):
        return "BIGINT"
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    if pa.types.is_date(kind):
        return "DATE"
    return "DOUBLE PRECISION" if _is_number(kind) else "TEXT"


def _spark_type(kind):
    if pa.types.is_integer(kind):
        return "LongType"
    if pa.types.is_boolean(kind):
        return "BooleanType"
    if pa.types.is_date(kind):
        return "DateType"
    return "DoubleType" if _is_number(kind) else "StringType"


def _is_number(kind):
    return pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _plain(value):
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value


def _copied(value):
    """A value for COPY FROM in text format."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
            value = value.replace(plain, escaped)
        return value
    return repr(value) if isinstance(value, float) else str(value)


def _read(text):
    """A value that COPY TO wrote: NULL, a number, or text."""
    if text == "<null>":
        return None
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def same(seen, expected, tolerance=1e-9):
    """Equal up to 1e-9 · max(1, |q|); NULL, None and NaN are one value."""
    if isinstance(expected, datetime.date):
        return str(seen) == str(expected)
    if _missing(seen) or _missing(expected):
        return _missing(seen) and _missing(expected)
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return abs(float(seen) - float(expected)) <= tolerance * max(1.0, abs(float(expected)))
    if isinstance(expected, bool):
        return str(seen).lower()[0] in ("t", "1") if expected else str(seen).lower()[0] in "f0"
    return seen == expected


def _missing(value):
    return value is None or (isinstance(value, float) and math.isnan(value))
