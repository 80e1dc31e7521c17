"""A cell made real: data, planted errors, a trained network (kept on disk), and a clean twin."""

from __future__ import annotations

import hashlib
import io
import tokenize
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

import rainpp
from experiments import data, deep_cases
from experiments.cases import sentences
from experiments.corrupt import Corruption, flip_classes, flip_private_men
from experiments.data import Floats, Labels
from experiments.models import count_params
from experiments.paper.blemishes import Blemish, blurred, salted, spoil
from experiments.paper.cells import Cell
from experiments.paper.kept import checkpoints
from experiments.paper.networks import Trainee, flat, sizes, trainee, unflat
from experiments.writing import check_folder, write
from rainpp.errors import one_line
from rainpp.training_set import TrainingSet
from rainpp.types import PyTree

# The class that is spoilt, what it is flipped to, and the second pair: 1 and 7 of MNIST, trousers
# and sneakers, automobiles and horses. Of two classes, the negative one is flipped.
SPOILT, TARGET = 1, 7
PAIRS = {"flip": [(SPOILT, TARGET)], "two flips": [(SPOILT, TARGET), (4, 9)]}
_OF_TWO_CLASSES = [(0, 1)]
_BLEMISHES: dict[str, Blemish] = {"blur": blurred, "salt": salted}


@dataclass(frozen=True, eq=False)
class Pool:
    """Clean data of a cell.

    Attributes
    ----------
    images : training images (n, height, width, channels) in [0, 1]; None for text and tables.
    inputs, inference : what the network is given.
    labels, truth : classes of both.
    groups : rows of the inference set by name, for queries with a condition.
    width : inputs of a plain network, words of a vocabulary.
    form : what the data went through, for the page.
    """

    inputs: PyTree
    labels: Labels
    inference: PyTree
    truth: Labels
    images: Floats | None
    groups: dict[str, NDArray[np.bool_]]
    width: int
    form: str
    mean: Any = 0.0
    spread: Any = 1.0

    def of_images(self, images: Floats) -> Floats:
        """What the network is given for images."""
        scaled = (images - self.mean) / self.spread
        return scaled.astype(np.float32).reshape(len(images), *self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row of the inputs."""
        return tuple(jax.tree.leaves(self.inputs)[0].shape[1:])


@dataclass(frozen=True, eq=False)
class Task:
    """A trained cell.

    Attributes
    ----------
    corrupted : (n,) rows with planted errors.
    repaired : for salt and pepper the inputs as the median filter leaves them, else None.
    clean : the same network trained on clean data; what it answers is the correct result.
    """

    cell: Cell
    pool: Pool
    model: rainpp.Model
    clean: rainpp.Model
    training: TrainingSet
    corrupted: NDArray[np.bool_]
    images: Floats | None

    @property
    def deep(self) -> bool:
        """Whether it is a network in Flax, over images or words."""
        return self.cell.network not in ("logistic", "mlp")

    @property
    def batch(self) -> int:
        """Rows at a time that suit the network."""
        return 64 if self.deep else 1024


def task(cell: Cell) -> Task:
    """Train a cell, or find it trained.

    Raises
    ------
    DataError : the data are not there.
    """
    pool = _pool(cell)
    images, errors = _planted(cell, pool)
    inputs = pool.inputs if images is None else pool.of_images(images)
    made = trainee(cell, pool.width)
    model = _fitted(made, inputs, errors.labels)
    twin = trainee(replace(cell, rate=0.0), pool.width)
    clean = _fitted(twin, pool.inputs, pool.labels)
    training = TrainingSet.checked(model, inputs, errors.labels)
    return Task(cell, pool, model, clean, training, errors.corrupted, images)


def _planted(cell: Cell, pool: Pool) -> tuple[Floats | None, Corruption]:
    """Training images, spoilt where the cell says so, and labels."""
    if cell.corruption in PAIRS:
        binary = cell.data in ("sst2", "adult")
        pairs = _OF_TWO_CLASSES if binary else PAIRS[cell.corruption]
        return pool.images, flip_classes(pool.labels, pairs, rate=cell.rate, seed=cell.seed)
    if cell.corruption == "men":
        return None, flip_private_men(data.adult(), rate=cell.rate, seed=cell.seed)
    kind, where = cell.corruption.split()
    assert pool.images is not None
    among = np.flatnonzero((pool.labels == SPOILT) | (where == "all"))
    order = np.random.default_rng((cell.seed, 1)).permutation(among)
    rows = order[: round(cell.rate * len(among))]
    images = spoil(pool.images, rows, _BLEMISHES[kind], seed=cell.seed)
    corrupted = np.isin(np.arange(len(pool.labels)), rows)
    return images, Corruption(pool.labels, corrupted)


# --- data ---------------------------------------------------------------------------------------


def _pool(cell: Cell) -> Pool:
    if cell.data == "cifar10":
        return _photos(cell)
    if cell.data == "sst2":
        return _reviews(cell)
    if cell.data == "adult":
        return _people()
    found = data.mnist() if cell.data == "mnist" else data.fashion_mnist()
    cut = sizes(cell)
    chosen = np.sort(np.random.default_rng(cell.seed).permutation(60_000)[: cut.rows])
    images = found.train_inputs[chosen].reshape(-1, 28, 28, 1)
    shape = (28, 28, 1) if cell.network == "cnn" else (784,)
    truth = found.test_labels[: cut.tested]
    return Pool(
        inputs=images.reshape(-1, *shape),
        labels=found.train_labels[chosen],
        inference=found.test_inputs[: cut.tested].reshape(-1, *shape),
        truth=truth,
        images=images,
        groups={"left": truth < 5},
        width=784,
        form="original",
    )


def _photos(cell: Cell) -> Pool:
    cut = sizes(cell)
    found = data.cifar10(train_rows=cut.rows, test_rows=cut.tested)
    side = 16 if cell.size == "small" else 32
    images, inference = (
        deep_cases.averaged(part, side) for part in (found.train_inputs, found.test_inputs)
    )
    mean, spread = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
    form = found.form if side == 32 else f"{found.form}, {side}x{side}"
    return Pool(
        inputs=((images - mean) / spread).astype(np.float32),
        labels=found.train_labels,
        inference=((inference - mean) / spread).astype(np.float32),
        truth=found.test_labels,
        images=images,
        groups={"left": np.isin(found.test_labels, deep_cases.VEHICLES)},
        width=0,
        form=form,
        mean=mean,
        spread=spread,
    )


def _reviews(cell: Cell) -> Pool:
    cut = sizes(cell)
    training, tested = sentences()
    if cut.rows is not None:
        training = training.sample(cut.rows, random_state=cell.seed)
    known = deep_cases.vocabulary(training, 14_798)
    inputs, inference = (deep_cases.tokens(part, known, cut.length) for part in (training, tested))
    return Pool(
        inputs=inputs,
        labels=training["label"].to_numpy(np.int32),
        inference=inference,
        truth=tested["label"].to_numpy(np.int32),
        images=None,
        groups={},
        width=len(known) + 2,
        form="original",
    )


def _people() -> Pool:
    people = data.adult()
    private = (people.test_frame["workclass"] == "Private").to_numpy(bool)
    men = (people.test_frame["sex"] == "Male").to_numpy(bool)
    return Pool(
        inputs=people.train_inputs,
        labels=people.train_labels,
        inference=people.test_inputs,
        truth=people.test_labels,
        images=None,
        groups={"Q4": private & men, "Q5": private, "Q6": men, "Q7": np.ones_like(men)},
        width=people.train_inputs.shape[1],
        form="original",
    )


# --- trained networks on disk -------------------------------------------------------------------


def _fitted(made: Trainee, inputs: PyTree, labels: Labels) -> rainpp.Model:
    """Trained now, or read from the cache; the same content has the same name."""
    path = checkpoints() / f"{_content(made, inputs, labels)}.npy"
    values = _read(path, count_params(made.untrained())) if path.exists() else None
    if values is None:
        check_folder(path.parent, ", or name another one in RAINPP_CHECKPOINTS")
        values = flat(made.fitted(inputs, labels))
        _save(path, values)
    return made.model(unflat(values, made.untrained()))


def _read(path: Path, count: int) -> np.ndarray | None:
    """The numbers of a network; None where the file does not hold so many, which is said."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            values = np.fromfile(file, np.float32)  # never a pickle, and no more than there is
    except (OSError, ValueError, TypeError, SyntaxError, tokenize.TokenError) as problem:
        found = one_line(problem)
    else:
        wanted = (1, 0), (count,), np.float32, count
        if (version, shape, dtype, values.size) == wanted and np.isfinite(values).all():
            return values
        found = f"it holds {values.size:,} numbers and promises {dtype} {shape}"
    print(f"{path} is damaged, so its network is trained anew: {count:,} finite float32 numbers "
          f"are needed; {found}.", flush=True)  # fmt: skip
    return None


def _save(path: Path, values: np.ndarray) -> None:
    """In one step: what is interrupted leaves nothing."""
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    write(path, content.getvalue())


def _content(made: Trainee, inputs: PyTree, labels: Labels) -> str:
    cell = made.cell
    told = (cell.data, cell.network, cell.seed, cell.size, made.schedule, jax.__version__)
    hashed = hashlib.sha256(repr(told).encode())
    for leaf in [*jax.tree.leaves(inputs), labels]:
        hashed.update(np.ascontiguousarray(leaf).tobytes())
    return f"{cell.data}-{cell.network}-{hashed.hexdigest()[:20]}"
