"""Convolutions as matrix products, for XLA's CPU backend.

There the gradient of a convolution by its kernel, and every convolution inside a loop, run code
that is neither vectorised nor threaded. Measured on 2 cores, one curvature product of the small CNN
of `experiments.offline_subsample` over 4 096 rows: 1.6 s at batch 64 and 4.8 s at 1 024; as matrix
products 0.34 s and 0.47 s. On an accelerator nothing is changed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from rainpp.types import PyTree

# Places of a kernel above which copies of the input, one for each place, take too much memory.
_MOST_PLACES = 64
_CONVOLUTION = "conv_general_dilated"
# Calls whose body can be written in their place.
_TRANSPARENT = ("jit", "pjit", "closed_call", "core_call")
_REMAT = ("checkpoint", "remat", "remat2")


def with_matrix_products(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`function` with its convolutions as matrix products, where that is faster: on a CPU.

    Values and derivatives are the same up to rounding. Grouped and transposed convolutions, and
    those inside loops of the function itself, stay as they are.
    """

    def run(*arguments: PyTree) -> PyTree:
        if jax.default_backend() != "cpu":
            return function(*arguments)
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if not _rewritable(closed.jaxpr):
            return function(*arguments)
        results = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return run


def has_convolution(function: Callable[..., PyTree], *arguments: PyTree) -> bool:
    """Whether `function` convolves; it is traced, not run, and shapes do for `arguments`."""
    return _rewritable(jax.make_jaxpr(function)(*arguments).jaxpr)


def _rewritable(jaxpr: Jaxpr) -> bool:
    """Whether a convolution can be reached that a matrix product can replace."""
    return any(
        _is_plain(equation) or any(map(_rewritable, _bodies(equation))) for equation in jaxpr.eqns
    )


def _bodies(equation: Any) -> Iterator[Jaxpr]:
    """What runs inside a call that can be looked into."""
    if equation.primitive.name in (*_TRANSPARENT, *_REMAT):
        body = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        yield body.jaxpr if isinstance(body, ClosedJaxpr) else body


def _is_plain(equation: Any) -> bool:
    """A convolution without groups or dilated inputs, of a small kernel."""
    if equation.primitive.name != _CONVOLUTION:
        return False
    params, kernel = equation.params, equation.invars[1].aval
    places = math.prod(kernel.shape[axis] for axis in params["dimension_numbers"].rhs_spec[2:])
    return (
        params["feature_group_count"] == 1
        and params["batch_group_count"] == 1
        and all(step == 1 for step in params["lhs_dilation"])
        and places <= _MOST_PLACES
        and jnp.issubdtype(kernel.dtype, jnp.floating)
    )


def _evaluate(jaxpr: Jaxpr, constants: Iterable[Any], arguments: Iterable[Any]) -> list[Any]:
    values = dict(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        inputs = [
            atom.val if isinstance(atom, Literal) else values[atom] for atom in equation.invars
        ]
        values.update(zip(equation.outvars, _results(equation, inputs), strict=True))
    return [atom.val if isinstance(atom, Literal) else values[atom] for atom in jaxpr.outvars]


def _results(equation: Any, inputs: list[Any]) -> list[Any]:
    if _is_plain(equation):
        return [_as_matrix_product(equation, *inputs)]
    for body in _bodies(equation):
        if _rewritable(body):
            return _called(equation, body, inputs)
    params = equation.primitive.get_bind_params(equation.params)
    # JAX 0.10.0 gives functions beside the settings, later versions have them among the settings.
    functions, params = params if isinstance(params, tuple) else ((), params)
    with equation.ctx.manager:
        found = equation.primitive.bind(*functions, *inputs, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def _called(equation: Any, body: Jaxpr, inputs: list[Any]) -> list[Any]:
    whole = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    constants = whole.consts if isinstance(whole, ClosedJaxpr) else ()

    def run(*arguments: Any) -> list[Any]:
        return _evaluate(body, constants, arguments)

    if equation.primitive.name in _REMAT:
        settings = {name: equation.params[name] for name in ("prevent_cse", "policy")}
        return jax.checkpoint(run, **settings)(*inputs)
    return run(*inputs)


def _as_matrix_product(equation: Any, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every place of the kernel as a slice of the padded input, side by side, times the kernel."""
    params = equation.params
    numbers = params["dimension_numbers"]
    rows = lax.transpose(inputs, _channels_last(numbers.lhs_spec))
    weights = lax.transpose(
        kernel, (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0])
    )
    rows = lax.pad(
        rows,
        jnp.zeros((), rows.dtype),
        [(0, 0, 0), *((low, high, 0) for low, high in params["padding"]), (0, 0, 0)],
    )
    *places, _, width = weights.shape
    columns = _slices(rows, places, (params["window_strides"], params["rhs_dilation"]))
    product = lax.dot_general(
        lax.concatenate(columns, rows.ndim - 1),
        weights.reshape(-1, width),
        (((rows.ndim - 1,), (0,)), ((), ())),
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    spec = numbers.out_spec  # where each of (batch, channels, space ...) goes
    order = _channels_last(spec)
    return lax.transpose(product, [order.index(axis) for axis in range(len(order))])


def _channels_last(spec: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of (batch, space ..., channels) from those of (batch, channels, space ...)."""
    return (spec[0], *spec[2:], spec[1])


def _slices(
    rows: jax.Array, places: list[int], steps: tuple[tuple[int, ...], tuple[int, ...]]
) -> list[jax.Array]:
    """What each place of the kernel sees: (batch, space ..., channels) each."""
    strides, dilation = steps
    reach = [(size - 1) * step for size, step in zip(places, dilation, strict=True)]
    last = [
        (size - far - 1) // stride * stride
        for size, far, stride in zip(rows.shape[1:-1], reach, strides, strict=True)
    ]
    found: list[jax.Array] = []
    for place in itertools.product(*map(range, places)):
        start = [at * step for at, step in zip(place, dilation, strict=True)]
        stop = [low + far + 1 for low, far in zip(start, last, strict=True)]
        found.append(
            lax.slice(
                rows,
                (0, *start, 0),
                (rows.shape[0], *stop, rows.shape[-1]),
                (1, *strides, 1),
            )
        )
    return found
