"""A folder with a model, its index and a watch.toml, as a user would have it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import rainpp
from rainpp.index.artifact import save
from tests.monitoring.world import trained
from tests.sources.world import QUERIES

ROOT = Path(__file__).parents[2]
RAINPP = [sys.executable, "-m", "rainpp.cli"]
TOKEN = "a token of 24 characters"

MODULE = """
import rainpp

def linear(params, inputs):
    return inputs @ params["w"] + params["b"][None, :]

def model(checkpoint_path):
    return rainpp.Model(linear, rainpp.load_checkpoint(checkpoint_path), l2=1e-2)
"""
HEAD = """
state = "state.duckdb"

[model]
factory = "rainpp_test_watch:model"
checkpoint = "model.npz"

[index]
path = "shop.rain"
"""
COLUMNS = 'id = "id"\nlabel = "label"'
MONITOR = """
[[monitor]]
name = "{name}"
sql = "{sql}"
time = "t"
{columns}
window = "1m"
lateness = "1h"
retention = "7d"
keep = "gradients"
[monitor.schema]
id = "BIGINT"
t = "TIMESTAMP"
region = "VARCHAR"
amount = "DOUBLE"
label = "BIGINT"
a = "DOUBLE"
b = "DOUBLE"
c = "DOUBLE"
d = "DOUBLE"
"""


def prepare(folder, *parts, names=tuple(QUERIES), without_ids=()):
    """Write everything into a folder; the path of its watch.toml."""
    folder.mkdir(exist_ok=True)
    (folder / "rainpp_test_watch.py").write_text(MODULE)
    rainpp.save_checkpoint(trained().model.params, folder / "model.npz")
    if not (folder / "shop.rain").exists():
        save(trained().index, folder / "shop.rain")
    monitors = [
        MONITOR.format(name=name, sql=QUERIES[name], columns="" if name in without_ids else COLUMNS)
        for name in names
    ]
    file = folder / "watch.toml"
    file.write_text("\n".join([HEAD, *monitors, *parts]))
    return file


def environment(**more):
    """The precision of this process, in another one."""
    return {**os.environ, "JAX_ENABLE_X64": "1", "PYTHONPATH": str(ROOT), **more}


class Watch:
    """A running `rainpp watch`, and what it says."""

    def __init__(self, file, *arguments, command="watch", env=None):
        self.process = subprocess.Popen(
            [*RAINPP, command, str(file), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env or environment(),
            cwd=file.parent,
        )
        self.log, self._said = [], threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._said:
                self.log.append(line.rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self.log.append("")
            self._said.notify_all()

    def wait_for(self, words, timeout=120):
        """The first line of stderr with some words; None if it ended without."""

        def found():
            return next((line for line in self.log if words in line), None)

        with self._said:
            assert self._said.wait_for(lambda: found() or "" in self.log, timeout), self.log
            return found()

    def end(self, number=None):
        """Exit status and stdout, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join(10)
        out = self.process.stdout.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return status, out
