"""The networks of §6.1.1 at the paper's sizes, and small ones for two cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

import rainpp
from experiments import models, nets, nets_text, train, train_nnx
from experiments.data import Labels
from experiments.paper.cells import PAPER_PARAMETERS, Cell
from experiments.train_nnx import Schedule
from rainpp.errors import SettingsError, ShapeError
from rainpp.types import PyTree

# How far the paper's "1.8M" or "390K" may be from the number itself.
_ROUNDED = 0.01
SMALL_MLP = (64,)


@dataclass(frozen=True)
class Sizes:
    """What a data set is cut to; None is all there is."""

    rows: int | None
    tested: int | None = None
    schedule: Schedule | None = None
    length: int = 64  # of a sentence in words


_SMALL = {
    ("mnist", "logistic"): Sizes(10_000),
    ("mnist", "mlp"): Sizes(10_000),
    ("mnist", "cnn"): Sizes(10_000, 5_000, Schedule(4, l2=1e-3)),
    ("cifar10", "wrn10"): Sizes(2_500, 1_000, Schedule(6, l2=1e-3)),
    ("sst2", "lstm"): Sizes(4_000, None, Schedule(6, l2=1e-4), length=16),
    ("adult", "logistic"): Sizes(None),
}
_FULL_SCHEDULES = {
    "cnn": Schedule(12, batch_size=256, learning_rate=1e-3),
    "lstm": Schedule(6, batch_size=256, learning_rate=1e-3),
    "wrn": Schedule(60, settling=5, batch_size=128, l2=5e-4),
}


def sizes(cell: Cell) -> Sizes:
    """What the data of a cell are cut to, and how its network is trained.

    Raises
    ------
    SettingsError : there is no small form of this network.
    """
    if cell.size == "full":
        kind = "wrn" if cell.network.startswith("wrn") else cell.network
        return Sizes(None, None, _FULL_SCHEDULES.get(kind))
    kind = "mnist" if cell.data == "fashion" else cell.data
    found = _SMALL.get((kind, cell.network))
    if found is None:
        known = ", ".join(" ".join(key) for key in _SMALL)
        raise SettingsError(
            f"there is no small {cell.network} for {cell.data}; use --size full, or one of {known}."
        )
    return found


@dataclass(frozen=True, eq=False)
class Trainee:
    """A network that can be trained on other labels.

    Attributes
    ----------
    architecture : for plain functions of parameters, else None.
    network : for Flax, else None.
    """

    cell: Cell
    architecture: models.Architecture | None
    network: nnx.Module | None
    schedule: Schedule | None

    def fitted(self, inputs: PyTree, labels: Labels) -> PyTree:
        """Parameters (and statistics of a Flax network) near a minimum."""
        if self.architecture is None:
            assert self.network is not None
            assert self.schedule is not None
            train_nnx.fit(self.network, inputs, labels, self.schedule)
            return _state(self.network)
        start = self.architecture.init(jax.random.key(self.cell.seed))
        apply, loss = self.architecture.apply, self.architecture.loss
        if self.cell.network == "logistic":
            return train.fit_convex(apply, start, inputs, labels, loss=loss)[0]
        return train.fit_sgd(apply, start, inputs, labels, seed=self.cell.seed)[0]

    def again(self, found: rainpp.Model, inputs: PyTree, labels: Labels) -> rainpp.Model:
        """A trained model on other rows: from its parameters where the minimum is the only one."""
        if self.architecture is None or self.cell.network != "logistic":
            return self.model(self.fitted(inputs, labels))
        apply, loss = self.architecture.apply, self.architecture.loss
        return self.model(train.fit_convex(apply, found.params, inputs, labels, loss=loss)[0])

    def untrained(self) -> PyTree:
        """Parameters of the same structure."""
        if self.architecture is None:
            assert self.network is not None
            return _state(self.network)
        return self.architecture.init(jax.random.key(self.cell.seed))

    def model(self, found: PyTree) -> rainpp.Model:
        """As the library takes it."""
        if self.architecture is not None:
            apply, loss = self.architecture.apply, self.architecture.loss
            return rainpp.Model(apply, found, loss=loss, l2=train.L2)
        assert self.network is not None
        assert self.schedule is not None
        network = nnx.clone(self.network)
        nnx.update(network, found)
        network.eval()
        return rainpp.Model.from_flax(network, loss="cross_entropy", l2=self.schedule.l2)


def _state(network: nnx.Module) -> PyTree:
    """Parameters and statistics; what only draws random numbers is no part of a trained network."""
    return nnx.state(network, nnx.Not(nnx.RngState))


def trainee(cell: Cell, num_inputs: int) -> Trainee:
    """The untrained network of a cell; at full size it has the paper's number of parameters.

    Parameters
    ----------
    num_inputs : columns of a plain network, words of a vocabulary; nothing else needs it.
    """
    schedule = sizes(cell).schedule
    if cell.network in ("logistic", "mlp"):
        made = Trainee(cell, _plain(cell, num_inputs), None, None)
    else:
        made = Trainee(cell, None, _flax(cell, num_inputs), schedule)
    if cell.size == "full":
        check_size(cell, made)
    return made


def check_size(cell: Cell, made: Trainee) -> None:
    """Whether a network is as large as the paper's.

    Raises
    ------
    SettingsError : it is not.
    """
    wanted = PAPER_PARAMETERS["adult" if cell.data == "adult" else cell.network]
    found = models.count_params(nnx.state(made.network, nnx.Param)) if made.network else (
        models.count_params(made.untrained())
    )  # fmt: skip
    if abs(found / wanted - 1) > _ROUNDED:
        raise SettingsError(f"{cell.name} has {found:,} parameters; the paper's has {wanted:,}.")


def _plain(cell: Cell, num_inputs: int) -> models.Architecture:
    if cell.data == "adult":
        return models.binary_regression(num_inputs=num_inputs)
    if cell.network == "logistic":
        return models.softmax_regression(num_inputs=num_inputs)
    hidden = models.PAPER_HIDDEN if cell.size == "full" else SMALL_MLP
    return models.mlp(num_inputs=num_inputs, hidden=hidden)


def _flax(cell: Cell, num_inputs: int) -> nnx.Module:
    rngs, small = nnx.Rngs(cell.seed), cell.size == "small"
    if cell.network == "cnn":
        shape = nets.CnnShape(channels=(8, 16), pools=(2, 2), hidden=64)
        return nets.Cnn(shape if small else nets.CnnShape(), rngs=rngs)
    if cell.network == "lstm":
        shape = nets_text.LstmShape(num_inputs, 32, 32) if small else nets_text.LstmShape()
        return nets_text.LstmClassifier(shape, rngs=rngs)
    blocks = nets.PAPER_BLOCKS[int(cell.network.removeprefix("wrn"))]
    return nets.WideResNet(nets.WideResNetShape(blocks, width=1 if small else 2), rngs=rngs)


def flat(found: PyTree) -> np.ndarray:
    """All numbers of a structure in one array, float32."""
    leaves = [np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(found)]
    return np.concatenate(leaves).astype(np.float32)


def unflat(values: np.ndarray, like: PyTree) -> PyTree:
    """The inverse of `flat`.

    Raises
    ------
    ShapeError : there are more or fewer numbers than `like` has.
    """
    leaves, structure = jax.tree.flatten(like)
    wanted = sum(leaf.size for leaf in leaves)
    if values.size != wanted:
        raise ShapeError(f"{values.size:,} numbers are given for {wanted:,} parameters.")
    found: list[Any] = []
    start = 0
    for leaf in leaves:
        stop = start + leaf.size
        found.append(values[start:stop].reshape(leaf.shape).astype(leaf.dtype))
        start = stop
    return jax.tree.unflatten(structure, [jax.numpy.asarray(part) for part in found])
