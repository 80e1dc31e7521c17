"""Flax Linen modules and NNX models as a pure function of their parameters, in evaluation mode.

Everything that is not a parameter is frozen: batch statistics, spectral norms, random states. After
retraining, parameters go back by Flax's own means: `nnx.update(model, params)` for NNX,
`{**variables, "params": params}` for Linen.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flax import linen, nnx
from flax.core import unfreeze
from flax.errors import FlaxError

from rainpp.errors import ModelError
from rainpp.types import ApplyFunction, PyTree

# What the switch between training and evaluation is called, and its value in evaluation.
_EVALUATION = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}


def split_flax(module: Any, variables: PyTree = None) -> tuple[ApplyFunction, PyTree]:
    """A pure `apply(params, inputs)` and the parameters it takes, for a Linen or NNX model.

    Dropout is off and batch normalisation uses its running statistics: arguments of `__call__` and
    attributes named train, training, is_training, deterministic or use_running_average are set for
    evaluation. The caller's model is never changed.

    Parameters
    ----------
    module : a Linen module, or an NNX model with its weights.
    variables : for Linen, what `init` or the training returned: {"params": ..., and every other
        collection}. None for NNX.

    Returns
    -------
    apply : (params, inputs) -> outputs; raises ModelError where Flax refuses the call.
    params : Linen: a nested dict. NNX: an `nnx.State` with every `nnx.Param`.

    Raises
    ------
    ModelError : neither kind of model, a class instead of an instance, or variables without the
        "params" collection.
    """
    if isinstance(module, type):
        raise ModelError(f"`module` is the class {module.__name__}; pass an instance of it.")
    if isinstance(module, linen.Module):
        return _split_linen(module, variables)
    if isinstance(module, nnx.Module):
        return _split_nnx(module, variables)
    raise ModelError(
        f"`module` is a {type(module).__name__}; a Flax Linen module or an NNX model is needed. "
        "Wrap any other function as rainpp.Model(apply, params)."
    )


def flax_source(module: Any, fitted: Any) -> tuple[Any, ...] | None:
    """Arguments of `split_flax` for what a training of `module` returned; None for bare parameters.

    Linen: the variables with "params". NNX: the trained module itself.
    """
    if isinstance(module, linen.Module):
        return (module, fitted) if isinstance(fitted, Mapping) and "params" in fitted else None
    return (fitted,) if isinstance(fitted, nnx.Module) else None


def _split_linen(module: linen.Module, variables: PyTree) -> tuple[ApplyFunction, PyTree]:
    collections = _linen_collections(variables)
    params = collections.pop("params")
    evaluated = module.clone(**_attributes_to_set(module))
    flags = _flags_to_pass(evaluated)

    def apply(params: PyTree, inputs: PyTree) -> Any:
        try:
            return evaluated.apply({"params": params, **collections}, inputs, **flags)
        except FlaxError as problem:
            raise ModelError(_refusal(module, problem)) from problem

    return apply, params


def _linen_collections(variables: PyTree) -> dict[str, Any]:
    if not isinstance(variables, Mapping):
        raise ModelError(
            f"`variables` is {_kind(variables)}; a Linen module needs "
            '{"params": ..., and any other collections} as returned by `init`.'
        )
    collections: dict[str, Any] = unfreeze(dict(variables))
    if "params" not in collections:
        raise ModelError(
            f'`variables` has the collections {sorted(map(str, collections))} but not "params". '
            'Pass {"params": params} if these are the parameters themselves.'
        )
    return collections


def _split_nnx(model: nnx.Module, variables: PyTree) -> tuple[ApplyFunction, PyTree]:
    if variables is not None:
        raise ModelError(
            f"`variables` is {_kind(variables)}, but an NNX model holds its own weights. "
            "Leave it out, or put weights in with nnx.update first."
        )
    # A copy with its own buffers: a later training step may donate, and so delete, the user's.
    evaluated = nnx.clone(model, arrays=True)
    nnx.Module.eval(evaluated)
    for _, part in nnx.iter_modules(evaluated):
        for name, value in _attributes_to_set(part).items():
            setattr(part, name, value)
    graph, params, rest = nnx.split(evaluated, nnx.Param, ...)
    flags = _flags_to_pass(evaluated)

    def apply(params: PyTree, inputs: PyTree) -> Any:
        try:
            # Variables made here: nnx.remat and nnx.scan refuse those of an outer trace.
            return nnx.merge(graph, params, rest, copy=True)(inputs, **flags)
        except FlaxError as problem:
            raise ModelError(_refusal(model, problem)) from problem

    return apply, params


def _attributes_to_set(module: Any) -> dict[str, Any]:
    """The module's own switches that were given a value; None means "given at the call"."""
    return {
        name: value
        for name, value in _EVALUATION.items()
        if isinstance(getattr(module, name, None), bool)
    }


def _flags_to_pass(module: Any) -> dict[str, Any]:
    """Arguments of `__call__` that switch training off.

    One that is an attribute too is left out: Linen's `merge_param` refuses to be told twice.
    """
    accepted = inspect.signature(type(module).__call__).parameters
    told = _attributes_to_set(module)
    return {
        name: value for name, value in _EVALUATION.items() if name in accepted and name not in told
    }


def _refusal(module: Any, problem: FlaxError) -> str:
    first = str(problem).strip().splitlines()[0]
    return (
        f"{type(module).__name__} cannot be applied in evaluation mode: {first} "
        f"Switches for it are found by name: {', '.join(_EVALUATION)}."
    )


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
