"""Matrix products and convolutions of float32 numbers in bfloat16, added up in float32.

A function is traced with all its derivatives, and every product in what comes out is given rounded
factors: those of the backward pass too, whose results stay float32.

JAX's own setting, `jax.default_matmul_precision("BF16_BF16_F32")`, does not do: XLA's CPU backend
ignores it (JAX 0.10: the same bits as without), and it says nothing about convolutions, on any
device. Types of the factors are obeyed everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from rainpp.errors import SettingsError
from rainpp.types import PyTree

MATMULS = ("float32", "bfloat16")
_PRODUCTS = ("dot_general", "conv_general_dilated")
# Calls whose body can stand in their place: what they say about derivatives has been used.
_TRANSPARENT = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call")


def check_matmul(matmul: Any, weights: np.dtype) -> None:
    """Refuse a kind of matrix product that there is not, or that does nothing for these weights.

    Raises
    ------
    SettingsError : an unknown word; bfloat16 where weights are float64.
    """
    if matmul not in MATMULS:
        raise SettingsError(f"`matmul` is {matmul!r}; it must be one of {list(MATMULS)}.")
    if matmul == "bfloat16" and weights != np.float32:
        raise SettingsError(
            f"`matmul` is 'bfloat16' and the model's weights are {weights}, whose products stay "
            "as they are. Give weights in float32, or leave `matmul` out."
        )


def in_bfloat16(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`function` with the factors of its float32 matrix products and convolutions rounded.

    Whatever precision they ask for themselves. Products inside a `shard_map` stay as they are.
    """

    def run(*arguments: PyTree) -> PyTree:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _evaluate(closed.jaxpr, closed.consts, *jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return run


def _evaluate(jaxpr: Jaxpr, constants: Iterable[Any], *arguments: Any) -> list[Any]:
    values = dict(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        inputs = [
            atom.val if isinstance(atom, Literal) else values[atom] for atom in equation.invars
        ]
        values.update(zip(equation.outvars, _results(equation, inputs), strict=True))
    return [atom.val if isinstance(atom, Literal) else values[atom] for atom in jaxpr.outvars]


def _results(equation: Any, inputs: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name in _PRODUCTS and all(jnp.result_type(factor) == jnp.float32 for factor in inputs):
        narrow = [lax.convert_element_type(factor, jnp.bfloat16) for factor in inputs]
        wide = {**params, "precision": None, "preferred_element_type": np.dtype(np.float32)}
        return [equation.primitive.bind(*narrow, **wide)]
    if name in _TRANSPARENT:
        body = params.get("jaxpr", params.get("call_jaxpr"))
        return _evaluate(*_opened(body), *inputs)
    if name != "shard_map":
        params = {key: _rounded(value) for key, value in params.items()}
    settings = equation.primitive.get_bind_params(params)
    # JAX 0.10.0 gives functions beside the settings, later versions have them among the settings.
    functions, settings = settings if isinstance(settings, tuple) else ((), settings)
    with equation.ctx.manager:
        found = equation.primitive.bind(*functions, *inputs, **settings)
    return list(found) if equation.primitive.multiple_results else [found]


def _opened(body: ClosedJaxpr | Jaxpr) -> tuple[Jaxpr, Iterable[Any]]:
    return (body.jaxpr, body.consts) if isinstance(body, ClosedJaxpr) else (body, ())


def _rounded(setting: Any) -> Any:
    """A setting of an operation; if it is the body of a loop or a branch, with its products."""
    if isinstance(setting, tuple) and _bodies(setting):  # of branches; others may be named tuples
        return tuple(map(_rounded, setting))
    if not isinstance(setting, ClosedJaxpr | Jaxpr) or not _has_products(_opened(setting)[0]):
        return setting
    jaxpr, constants = _opened(setting)
    arguments: list[Any] = [variable.aval for variable in jaxpr.invars]
    kinds = [jax.ShapeDtypeStruct(kind.shape, kind.dtype) for kind in arguments]
    closed = jax.make_jaxpr(partial(_evaluate, jaxpr, constants))(*kinds)
    return closed if isinstance(setting, ClosedJaxpr) else closed.jaxpr


def _has_products(jaxpr: Jaxpr) -> bool:
    return any(
        equation.primitive.name in _PRODUCTS
        or any(
            _has_products(_opened(body)[0])
            for setting in equation.params.values()
            for body in _bodies(setting)
        )
        for equation in jaxpr.eqns
    )


def _bodies(setting: Any) -> list[ClosedJaxpr | Jaxpr]:
    items = setting if isinstance(setting, tuple) else (setting,)
    return [item for item in items if isinstance(item, ClosedJaxpr | Jaxpr)]
