"""The data: scikit-learn digits, half of the training 1s labelled 7, the rest a DuckDB table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rainpp.database import Database, connect
from rainpp.errors import DataError, RainError

VICTIM, MISTAKEN_FOR = 1, 7
_MISLABELLED = 0.5  # of the training 1s
_TRAINING = 2 / 3


@dataclass(frozen=True, eq=False)
class Digits:
    """Training rows (n, 64) in [0, 1] with planted labels, and the rows of the table."""

    inputs: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    table_inputs: np.ndarray
    table_truth: np.ndarray

    @property
    def planted(self) -> np.ndarray:
        """Which labels were made wrong (n,)."""
        return self.labels != self.truth


def load_images() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 64) in [0, 1] and their digits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as problem:
        raise RainError(
            "the demo takes its data from scikit-learn, which is not installed: "
            'pip install "rainpp[demo]"'
        ) from problem
    bunch: Any = load_digits()
    return (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int32)


def plant_errors(images: np.ndarray, digits: np.ndarray, *, seed: int) -> Digits:
    """Split into training and table rows, and mislabel some of the training 1s."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits))
    size = round(_TRAINING * len(digits))
    train, table = np.sort(order[:size]), np.sort(order[size:])
    truth = digits[train]
    victims = np.flatnonzero(truth == VICTIM)
    wrong = rng.choice(victims, round(_MISLABELLED * victims.size), replace=False)
    labels = truth.copy()
    labels[wrong] = MISTAKEN_FOR
    return Digits(images[train], labels, truth, images[table], digits[table])


def write_database(folder: Path, data: Digits) -> None:
    """digits.duckdb with one table digits(id, image FLOAT[64]); written aside and renamed."""
    aside = folder / ".digits.duckdb-new"
    pixels = pa.array(data.table_inputs.reshape(-1), pa.float32())
    rows = pa.table(
        {
            "id": np.arange(len(data.table_inputs)),
            "image": pa.FixedSizeListArray.from_arrays(pixels, data.table_inputs.shape[1]),
        }
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        with connect() as memory:
            _copy(memory, rows, aside)
        aside.replace(folder / "digits.duckdb")
    except OSError as problem:
        raise DataError(f"cannot write to `{folder}`: {problem.strerror or problem}.") from problem


def _copy(memory: Database, rows: pa.Table, path: Path) -> None:
    quoted = str(path).replace("'", "''")
    memory.connection.register("rows", rows)
    memory.connection.execute(f"ATTACH '{quoted}' AS file")
    memory.connection.execute("CREATE TABLE file.digits AS SELECT * FROM rows")
    memory.connection.execute("DETACH file")
