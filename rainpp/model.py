"""A trained model: a pure function, its parameters, and the loss it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rainpp.convolution import with_matrix_products
from rainpp.errors import DataError, ModelError, SettingsError, ShapeError, one_line
from rainpp.fingerprint import fingerprint
from rainpp.loss import Loss, RowLoss, find_loss
from rainpp.matmul import in_bfloat16
from rainpp.types import ApplyFunction, PyTree, row_blocks


@dataclass(frozen=True, eq=False)
class Network:
    """A model without its weights: outputs and losses as functions of a flat parameter vector.

    Retrained copies of a model share one network, and with it everything XLA has compiled.

    Attributes
    ----------
    apply : as given by the user.
    loss : of one row of outputs, and what outputs mean.
    unravel : flat vector (d,) -> params.
    matmul : "bfloat16" if everything that is compiled has its matrix products so; else "float32".
    """

    apply: ApplyFunction
    loss: Loss
    unravel: Callable[[jax.Array], PyTree]
    matmul: str = "float32"
    _compiled: dict[str, Callable[..., Any]] = field(
        default_factory=dict[str, Callable[..., Any]], repr=False
    )

    def outputs(self, theta: jax.Array, inputs: PyTree) -> jax.Array:
        """Outputs (batch, width) for the flat parameters `theta`; differentiable."""
        raw = with_matrix_products(self.apply)(self.unravel(theta), inputs)
        return raw[:, None] if raw.ndim == 1 else raw

    def losses(self, theta: jax.Array, inputs: PyTree, labels: jax.Array) -> jax.Array:
        """Loss of every row (batch,), without the l2 term; differentiable."""
        return jax.vmap(self.loss.of_row)(self.outputs(theta, inputs), labels)

    def probabilities(self, theta: jax.Array, inputs: PyTree) -> jax.Array:
        """Class probabilities (batch, R), or regression values; differentiable."""
        return self.loss.probabilities(self.outputs(theta, inputs))

    def jit(self, function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        """`function` with this network as its first argument, compiled once per network.

        `settings` are keyword arguments fixed at compilation. Compiling again for every complaint
        cost 0.1 to 1 s; the function's qualified name and the settings are the key.
        """
        key = f"{function.__module__}.{function.__qualname__} {sorted(settings.items())}"
        if key not in self._compiled:
            self._compiled[key] = jax.jit(self.bound(function, **settings))
        return self._compiled[key]

    def bound(self, function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        """`function` of this network, with its kind of matrix products, to be traced."""
        of_this = partial(function, self, **settings)
        return in_bfloat16(of_this) if self.matmul == "bfloat16" else of_this

    @cached_property
    def rounded(self) -> Network:
        """The same network, with matrix products as `rainpp.matmul` says."""
        return replace(self, matmul="bfloat16", _compiled={})


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model as rainpp sees it: a network and its parameters as one flat vector.

    Parameters
    ----------
    apply : (params, inputs) -> outputs (batch, R), or (batch,) for a single output. Pure; in
        evaluation mode (no dropout, fixed batch statistics); each row independent of the others.
    params : pytree of floating arrays, at the optimum of the training objective.
    loss : "cross_entropy" (outputs are logits, labels 0..R-1), "binary_cross_entropy" (one logit,
        labels 0/1), "squared_error" (half the squared distance), or (outputs_row, label) -> scalar,
        whose outputs are then taken as logits.
    l2 : λ in J(θ) = mean loss + ½·λ·‖θ‖².

    Raises
    ------
    ModelError : params are empty, hold NaN or integers; an unknown loss; a negative l2.
    """

    apply: ApplyFunction
    params: PyTree
    loss: str | RowLoss = "cross_entropy"
    l2: float = 0.0
    network: Network = field(init=False, repr=False)
    theta: jax.Array = field(init=False, repr=False)
    _module: Any = field(init=False, repr=False, default=None)  # the Flax module it came from

    def __post_init__(self) -> None:
        if not callable(self.apply):
            raise ModelError(f"`apply` is {self.apply!r}; it must be (params, inputs) -> outputs.")
        loss = find_loss(self.loss)
        object.__setattr__(self, "l2", _check_l2(self.l2))
        _check_params(self.params)
        object.__setattr__(self, "params", jax.tree.map(_at_least_single, self.params))
        # Now and not on first use: a value made inside a user's jit would leak its tracer.
        theta, unravel = ravel_pytree(self.params)
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "network", Network(self.apply, loss, unravel))

    def __repr__(self) -> str:
        return f"Model({self.num_params:,} parameters, loss={self.criterion.name}, l2={self.l2:g})"

    @staticmethod
    def from_flax(
        module: Any,
        variables: PyTree = None,
        *,
        loss: str | RowLoss = "cross_entropy",
        l2: float = 0.0,
    ) -> Model:
        """A Flax Linen module with its variables, or an NNX model, in evaluation mode.

        See `rainpp.adapters.flax_module` for how dropout and batch statistics are frozen.
        """
        from rainpp.adapters.flax_module import split_flax

        apply, params = split_flax(module, variables)
        model = Model(apply, params, loss=loss, l2=l2)
        object.__setattr__(model, "_module", module)
        return model

    @property
    def criterion(self) -> Loss:
        """The loss with its meaning of outputs."""
        return self.network.loss

    @property
    def task(self) -> str:
        """What the outputs mean: "multiclass", "binary" or "regression"."""
        return self.criterion.task

    @property
    def num_params(self) -> int:
        """d."""
        return int(self.theta.size)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the parameters, the loss and l2: an index belongs to exactly one of these."""
        return fingerprint(self.params, f"{self.criterion.identity} l2={self.l2!r}")

    def with_params(self, params: PyTree) -> Model:
        """The same architecture with other weights, e.g. after retraining.

        Raises
        ------
        ModelError : they have another structure or other shapes.
        """
        same = jax.tree.structure(self.params) == jax.tree.structure(params)
        if not same or _signature(params) != _signature(self.params):
            raise ModelError(_difference(self.params, params))
        model = Model(self.apply, params, loss=self.loss, l2=self.l2)
        object.__setattr__(model, "network", self.network)
        object.__setattr__(model, "_module", self._module)
        return model

    def with_matmul(self, matmul: str) -> Model:
        """The same model, its network compiled with matrix products of another kind."""
        if matmul == self.network.matmul:
            return self
        model = copy(self)
        object.__setattr__(model, "network", self.network.rounded)
        return model

    def refitted(self, fitted: Any) -> Model:
        """The model a training function returned, in whatever form it returned it.

        Parameters
        ----------
        fitted : a Model; parameters of the same structure; for a model from Flax also the variables
            {"params": ...} or the trained NNX module, with their batch statistics.

        Raises
        ------
        ModelError : nothing, or something of another structure.
        """
        if isinstance(fitted, Model):
            return fitted
        if fitted is None:
            raise ModelError("`fit` returned None; it must return the parameters, or a Model.")
        if self._module is not None:
            from rainpp.adapters.flax_module import flax_source

            source = flax_source(self._module, fitted)
            if source is not None:
                return Model.from_flax(*source, loss=self.loss, l2=self.l2)
        return self.with_params(fitted)

    def outputs(self, theta: jax.Array, inputs: PyTree) -> jax.Array:
        """Outputs (batch, width) for the flat parameters `theta`; differentiable."""
        return self.network.outputs(theta, inputs)

    def example_losses(self, theta: jax.Array, inputs: PyTree, labels: jax.Array) -> jax.Array:
        """Loss of every row (batch,), without the l2 term; differentiable."""
        return self.network.losses(theta, inputs, labels)

    def output_width(self, inputs: PyTree) -> int:
        """Columns of the model's outputs, found without running it on all rows.

        Raises
        ------
        ModelError : the model cannot read these inputs, or does not return (batch, R).
        """
        probe = jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), inputs)
        try:
            found = jax.eval_shape(self.apply, self.params, probe)
        except Exception as problem:
            first = f"{type(problem).__name__}: {problem}".splitlines()[0]
            raise ModelError(
                f"`apply` fails on inputs of shape {shapes_of(inputs)}: {first}"
            ) from problem
        shape = getattr(found, "shape", None)
        if shape is None or len(shape) not in (1, 2) or shape[0] != 1:
            given = type(found).__name__ if shape is None else f"shape {shape}"
            raise ModelError(f"`apply` returns {given} for one row; (1, R) is needed.")
        if not jnp.issubdtype(found.dtype, jnp.floating):
            raise ModelError(f"`apply` returns {found.dtype}; floating outputs are needed.")
        width = shape[1] if len(shape) == 2 else 1
        if self.task == "binary" and width != 1:
            raise ModelError(
                f"binary_cross_entropy needs one logit per row; the model has {width}. "
                "Use loss='cross_entropy' for one logit per class."
            )
        if self.task == "multiclass" and width < 2:
            raise ModelError(
                "cross_entropy needs one logit per class; the model has a single output. "
                "Use loss='binary_cross_entropy' for one logit."
            )
        return width

    def probabilities(self, inputs: PyTree, *, batch_size: int = 4096) -> np.ndarray:
        """Class probabilities (V, R) of every row, or predicted values for regression.

        Raises
        ------
        DataError : the model's outputs are NaN for some row.
        """
        num_rows = check_inputs(inputs)
        if batch_size < 1:
            raise SettingsError(f"`batch_size` is {batch_size}; it must be at least 1.")
        self.output_width(inputs)
        kernel = self.network.jit(Network.probabilities)
        parts = [
            np.asarray(kernel(self.theta, rows))[: where.stop - where.start]
            for rows, where in batched(inputs, num_rows, batch_size)
        ]
        values = np.concatenate(parts)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            raise DataError(f"the model's output for row {bad[0]} is not finite ({bad.size} rows).")
        return values


def batched(inputs: PyTree, num_rows: int, size: int) -> Iterator[tuple[PyTree, slice]]:
    """Batches of equal size, so that they compile once; the last is padded with its first row."""
    for start in range(0, num_rows, size):
        stop = min(start + size, num_rows)
        rows = jax.tree.map(itemgetter(slice(start, stop)), inputs)
        if stop - start < size and num_rows > size:
            rows = jax.tree.map(partial(_pad, size=size), rows)
        yield jax.tree.map(jnp.asarray, rows), slice(start, stop)


def _pad(leaf: Any, *, size: int) -> np.ndarray:
    rows = np.asarray(leaf)
    return np.concatenate([rows, np.repeat(rows[:1], size - rows.shape[0], axis=0)])


def _difference(own: PyTree, other: PyTree) -> str:
    """What keeps `other` from being parameters like `own`, naming the first leaf that differs."""
    from rainpp.adapters.names import joined, named_leaves

    shapes, found = (
        {joined(name): np.shape(leaf) for name, leaf in named_leaves(tree)} for tree in (own, other)
    )
    missing, extra = sorted(set(shapes) - set(found)), sorted(set(found) - set(shapes))
    if missing or extra:
        lacking = f"lacks `{missing[0]}`" if missing else f"has an extra `{extra[0]}`"
        return f"`params` {lacking}; this model has the structure {sorted(shapes)}."
    for name, shape in shapes.items():
        if found[name] != shape:
            return f"`params` has `{name}` of shape {found[name]}; this model's is {shape}."
    return "`params` has another structure, or other types, than this model's."


def _signature(params: PyTree) -> list[tuple[tuple[int, ...], str]]:
    try:
        return [(np.shape(leaf), str(jnp.result_type(leaf))) for leaf in jax.tree.leaves(params)]
    except (TypeError, ValueError) as problem:
        raise ModelError(
            f"`params` holds what is no array of numbers: {one_line(problem)}"
        ) from None


def shapes_of(inputs: PyTree) -> str:
    """Shapes of every leaf, for messages."""
    return ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(inputs))


def check_inputs(inputs: PyTree) -> int:
    """Number of rows of an array or pytree of arrays with a common leading axis.

    Raises
    ------
    ShapeError : no arrays, a scalar among them, or different numbers of rows.
    DataError : no rows, or a NaN or infinity in some row.
    """
    leaves = jax.tree.leaves(inputs)
    for leaf in leaves:
        if not hasattr(leaf, "dtype") or np.ndim(leaf) == 0:
            raise ShapeError(
                f"`inputs` holds a {type(leaf).__name__}; it must be an array, or a pytree of "
                "arrays, with rows first (frame.to_numpy() for a data frame)."
            )
    if not leaves:
        raise ShapeError("`inputs` is empty; it must be an array, or a pytree of arrays.")
    counts = {int(np.shape(leaf)[0]) for leaf in leaves}
    if len(counts) > 1:
        raise ShapeError(f"`inputs` has arrays with different numbers of rows: {sorted(counts)}.")
    if counts == {0}:
        raise DataError("`inputs` has no rows.")
    for leaf in leaves:
        start = 0
        for block in row_blocks(leaf):
            _check_finite(block, start)
            start += block.shape[0]
    return counts.pop()


def _check_finite(array: np.ndarray, start: int) -> None:
    if array.dtype.kind in "OUSTmM":
        what = "Python objects" if array.dtype == object else f"{array.dtype} values"
        raise DataError(f"`inputs` holds {what}; the model needs numeric arrays: encode them.")
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    rows = array.reshape(array.shape[0], -1)
    # A sum is NaN or infinite whenever an element is: one pass and no mask of all elements. It can
    # also overflow, so the rows it suspects are looked at again. In single precision it takes
    # half the time of double; BLAS is quicker alone, but its threads get in the way of XLA's.
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = np.flatnonzero(~np.isfinite(rows.sum(axis=1, dtype=_summed_in(array.dtype))))
    bad = suspects[~np.isfinite(rows[suspects].astype(np.float64)).all(axis=1)]
    if bad.size:
        raise DataError(
            f"`inputs` row {start + bad[0]} holds a NaN or infinity ({bad.size} such rows). "
            "Drop or impute them first."
        )


def _summed_in(kind: np.dtype[Any]) -> np.dtype[Any]:
    return kind if kind == np.float32 else np.dtype(np.float64)


def _check_l2(l2: Any) -> float:
    try:
        value = float(l2)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value) or value < 0:
        raise ModelError(f"`l2` is {l2!r}; it must be a finite number >= 0.")
    return value


def _at_least_single(leaf: Any) -> Any:
    """Half-precision weights as float32: curvature in bfloat16 has two significant digits."""
    return leaf if np.dtype(leaf.dtype).itemsize >= 4 else jnp.asarray(leaf, jnp.float32)


def _check_params(params: PyTree) -> None:
    leaves = jax.tree.leaves_with_path(params)
    if not any(np.size(leaf) for _, leaf in leaves):
        raise ModelError("`params` is empty: there is nothing to debug.")
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path)
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(dtype, jnp.floating):
            raise ModelError(
                f"`params{name}` has type {dtype}; parameters must be floating arrays. "
                "Close over constants inside `apply` instead."
            )
        if not np.isfinite(np.asarray(leaf).astype(np.float64)).all():
            raise ModelError(f"`params{name}` holds NaN or infinity: the training diverged.")
