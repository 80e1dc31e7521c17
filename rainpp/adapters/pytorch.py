"""Weights of a PyTorch model, saved as safetensors, in the shape of an equivalent Flax module.

========================  =====================  ==================================================
PyTorch                   Flax                   what happens
========================  =====================  ==================================================
Linear weight             kernel                 transposed: (out, in) -> (in, out)
Conv weight               kernel                 (out, in, *space) -> (*space, in, out)
Embedding weight          embedding              as it is
norm weight               scale                  as it is
norm running_mean, _var   mean, var              as it is
bias                      bias                   as it is
LSTM weight_ih, _hh_l0    cells of Linen or NNX  split into gates; the two biases are added
MultiheadAttention        query, key, value,     in_proj split in three, by heads
                          out
========================  =====================  ==================================================

PyTorch itself is not needed: what is read is names and arrays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from rainpp.adapters.checkpoint import load_checkpoint
from rainpp.adapters.names import Name, fitted, joined, named_leaves
from rainpp.errors import ArtifactError
from rainpp.types import PyTree

# Counts the batches a running mean has seen; evaluation does not need it.
_IGNORED = "num_batches_tracked"
_PLAIN = {
    "kernel": "weight",
    "embedding": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_GATES = ("i", "f", "g", "o")  # in the order in which PyTorch stacks them
_INPUTS = {"dense_i": slice(None), **{f"i{gate}": n for n, gate in enumerate(_GATES)}, "if_": 1}
_STATES = {"dense_h": slice(None), **{f"h{gate}": n for n, gate in enumerate(_GATES)}}
_HEADS = {"query": 0, "key": 1, "value": 2}
_LISTED = 20

Shape = tuple[int, ...]
MapShape = tuple[int, int, int]


def from_pytorch(
    state: str | os.PathLike[str] | Mapping[str, Any],
    like: PyTree,
    *,
    modules: Mapping[str, str] | None = None,
    flattened: Mapping[str, MapShape] | None = None,
) -> PyTree:
    """The arrays of a PyTorch `state_dict`, in the structure of a Flax model.

    Parameters
    ----------
    state : a checkpoint written from `model.state_dict()`, such as a .safetensors file; or its
        names and arrays.
    like : what gives structure, shapes and types: the variables of a Linen module ({"params": ...,
        "batch_stats": ...}; shapes from `jax.eval_shape` will do) or an NNX model.
    modules : PyTorch module -> Flax module, where their names differ: {"features.0": "convs.0"}.
        What is inside a module goes with it. "" is the whole Flax model, for state under a prefix.
        The second layer of an LSTM is "lstm.l1", its backward direction "lstm.l1_reverse".
    flattened : Linear -> (height, width, channels) of the feature map that was flattened just
        before it. PyTorch flattens channels first and Flax channels last, so its columns are put
        into the other order. Nothing else tells: forgetting one gives other outputs, not an error.

    Returns
    -------
    The structure of `like`, filled; for an NNX model the state that `nnx.update` takes.

    Raises
    ------
    ArtifactError : naming every array the model needs and the state lacks, every array nothing was
        made of, and shapes that do not fit.
    """
    target = _state_of(like)
    source = _Source(_arrays(state), {v: k for k, v in (modules or {}).items()}, flattened or {})
    wanted = list(named_leaves(target))
    linen = isinstance(target, Mapping) and "params" in target
    found = [source.find(name[1:] if linen else name, np.shape(leaf)) for name, leaf in wanted]
    source.check(modules or {})
    pairs = zip(wanted, found, strict=True)
    leaves = [fitted(joined(name), array, leaf) for (name, leaf), array in pairs]
    return jax.tree.unflatten(jax.tree.structure(target), leaves)


def _state_of(like: PyTree) -> PyTree:
    from flax import nnx

    if isinstance(like, nnx.Module):
        return nnx.state(like, nnx.Any(nnx.Param, nnx.BatchStat))
    return like


def _arrays(state: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, np.ndarray]:
    tree = load_checkpoint(state) if isinstance(state, str | os.PathLike) else dict(state)
    found = {joined(name): np.asarray(leaf) for name, leaf in named_leaves(tree)}
    return {name: array for name, array in found.items() if not name.endswith(_IGNORED)}


@dataclass
class _Source:
    """Arrays by their PyTorch names, what was used of them, and what was looked for in vain.

    `names` are PyTorch modules by Flax module.
    """

    arrays: dict[str, np.ndarray]
    names: Mapping[str, str]
    flattened: Mapping[str, MapShape]
    used: set[str] = field(default_factory=set[str])
    missing: list[str] = field(default_factory=list[str])

    def find(self, name: Name, shape: Shape) -> np.ndarray:
        """The array for one leaf of the Flax model; zeros, and a note, where there is none."""
        module, leaf = self._module(joined(name[:-1])), name[-1]
        parent, _, part = module.rpartition(".")
        stem, layer = _layer(parent)
        if f"{stem}weight_ih_{layer}" in self.arrays and part in {**_INPUTS, **_STATES}:
            return self._gate(stem, layer, part, leaf)
        if f"{parent}.in_proj_weight" in self.arrays and part in {*_HEADS, "out"}:
            return self._attention(parent, part, leaf, shape)
        array = self._take(_dotted(module, _PLAIN.get(leaf, leaf)), shape)
        if leaf != "kernel":
            return array
        if module in self.flattened and array.ndim == 2:
            return _channels_last(array, self.flattened[module], module)
        return np.moveaxis(array, (0, 1), (-1, -2))

    def check(self, modules: Mapping[str, str]) -> None:
        """Refuse a state that lacks something, or holds something nobody asked for."""
        unused = sorted(set(self.arrays) - self.used)
        problems = [f"has no {_list(self.missing)}"] if self.missing else []
        problems += [f"has {_list(unused)}, which no part of the model takes"] if unused else []
        stems = {name: _layer(name)[0].removesuffix(".") for name in modules}
        unknown = [
            name
            for name, stem in stems.items()
            if not any(_inside(key, stem) for key in self.arrays)
        ]
        problems += [f"has nothing under {_list(unknown)} of `modules`"] if unknown else []
        if problems:
            raise ArtifactError(
                f"the PyTorch state {'; it '.join(problems)}. Say in `modules` which PyTorch "
                "module is which Flax module."
            )

    def _module(self, module: str) -> str:
        """The PyTorch name of a Flax module: its own, or from the longest prefix that was given."""
        prefixes = [prefix for prefix in self.names if _inside(module, prefix)]
        if not prefixes:
            return module
        prefix = max(prefixes, key=len)
        rest = module[len(prefix) :].lstrip(".")
        return _dotted(self.names[prefix], rest)

    def _take(self, name: str, shape: Shape = ()) -> np.ndarray:
        if name not in self.arrays:
            self.missing.append(name)
            return np.zeros(shape)
        self.used.add(name)
        return self.arrays[name]

    def _gate(self, stem: str, layer: str, part: str, leaf: str) -> np.ndarray:
        """One gate, or all side by side, of an LSTM's input or recurrent weights."""
        which = _INPUTS if part in _INPUTS else _STATES
        if leaf == "kernel":
            side = "ih" if part in _INPUTS else "hh"
            array = self._take(f"{stem}weight_{side}_{layer}").T
        else:  # Flax has one bias where PyTorch has two
            sides = ("ih", "hh")
            array = sum(self._take(f"{stem}bias_{side}_{layer}") for side in sides)
        place = which[part]
        return np.asarray(array) if isinstance(place, slice) else np.split(array, 4, -1)[place]

    def _attention(self, parent: str, part: str, leaf: str, shape: Shape) -> np.ndarray:
        kind = "weight" if leaf == "kernel" else "bias"
        if part == "out":
            return _reshaped(self._take(f"{parent}.out_proj.{kind}").T, shape)
        stacked = self._take(f"{parent}.in_proj_{kind}")
        return _reshaped(np.split(stacked, 3)[_HEADS[part]].T, shape)


def _layer(module: str) -> tuple[str, str]:
    """The LSTM and the suffix of its arrays: "lstm.l1" is ("lstm.", "l1")."""
    match = re.fullmatch(r"(?:(.*)\.)?(l\d+(?:_reverse)?)", module)
    stem, layer = (match[1], match[2]) if match else (module, "l0")
    return f"{stem}." if stem else "", layer


def _channels_last(weight: np.ndarray, shape: MapShape, module: str) -> np.ndarray:
    height, width, channels = shape
    if weight.shape[1] != height * width * channels:
        raise ArtifactError(
            f"`flattened` says a map of {height} x {width} x {channels} comes before `{module}`, "
            f"which has {weight.shape[1]} inputs."
        )
    maps = weight.reshape(-1, channels, height, width)
    return maps.transpose(2, 3, 1, 0).reshape(weight.shape[1], -1)


def _reshaped(array: np.ndarray, shape: Shape) -> np.ndarray:
    """By heads; left as it is, to be named as of the wrong shape, where the sizes differ."""
    return array.reshape(shape) if array.size == np.prod(shape) else array


def _inside(name: str, module: str) -> bool:
    return not module or name == module or name.startswith(f"{module}.")


def _dotted(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _list(names: Iterable[str]) -> str:
    every = [f"`{name}`" for name in names]
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more
