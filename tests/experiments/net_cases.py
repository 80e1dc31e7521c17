"""Every kind of network at a few hundred weights, in double precision, with rows for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import nets, nets_linen, nets_text
from rainpp.adapters.names import joined, named_leaves
from rainpp.model import Model

CNN = nets.CnnShape((7, 7, 1), (2, 3), (1, 2), hidden=3, num_outputs=3, batch_norm=True)
VALUE_CNN = nets.CnnShape((7, 7, 1), (2,), (2,), hidden=2, num_outputs=1)
WRN = nets.WideResNetShape(blocks=1, width=1, num_channels=1, num_outputs=3, groups=(2, 3))
LSTM = nets_text.LstmShape(num_tokens=7, embedding=3, hidden=4, num_outputs=3)
TRANSFORMER = nets_text.TransformerShape(
    num_tokens=7, length=5, width=4, num_heads=2, mlp=3, num_blocks=1, num_outputs=3
)
NNX: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {
    "cnn": lambda rngs: nets.Cnn(CNN, rngs=rngs),
    "cnn of a value": lambda rngs: nets.Cnn(VALUE_CNN, rngs=rngs),
    "wrn": lambda rngs: nets.WideResNet(WRN, rngs=rngs),
    "lstm": lambda rngs: nets_text.LstmClassifier(LSTM, rngs=rngs),
    "transformer": lambda rngs: nets_text.TransformerEncoder(TRANSFORMER, rngs=rngs),
    "logistic regression": lambda rngs: nets.Linear(49, 3, rngs=rngs),
    "binary logit": lambda rngs: nets.Linear(49, 1, rngs=rngs),
    "linear regression": lambda rngs: nets.Linear(49, 1, rngs=rngs),
    "mlp of two values": lambda rngs: nets.Mlp((49, 3, 2), rngs=rngs),
}
LINEN = {
    "cnn": lambda: nets_linen.Cnn(CNN),
    "wrn": lambda: nets_linen.WideResNet(WRN),
    "lstm": lambda: nets_linen.LstmClassifier(LSTM),
    "transformer": lambda: nets_linen.TransformerEncoder(TRANSFORMER),
}
LOSSES = {"binary logit": "binary_cross_entropy", "linear regression": "squared_error"}
NUM_ROWS = 11


@dataclass(frozen=True)
class Case:
    """A model from Flax, what it was made of, and rows for it."""

    model: Model
    source: tuple[Any, ...]
    inputs: Any
    labels: np.ndarray

    def take(self, rows) -> Any:
        """The inputs of some rows."""
        return jax.tree.map(lambda leaf: leaf[rows], self.inputs)


@functools.cache
def case(name: str, framework: str, dtype: str = "float64") -> Case:
    """A network with random weights and running statistics."""
    inputs, labels = rows_for(name, dtype)
    loss = LOSSES.get(name, "squared_error" if "value" in name else "cross_entropy")
    source = _nnx(name, dtype) if framework == "nnx" else _linen(name, dtype, inputs)
    return Case(Model.from_flax(*source, loss=loss, l2=1e-2), source, inputs, labels)


def rows_for(name: str, dtype: str) -> tuple[Any, np.ndarray]:
    """Inputs and labels; the first sentence is all padding, the second has none."""
    rng = np.random.default_rng(3)
    images = (1 + rng.normal(size=(NUM_ROWS, 7, 7, 1))).astype(dtype)
    if "regression" in name and "logistic" not in name:
        return images, rng.normal(size=NUM_ROWS)
    if "value" in name:
        return images, rng.normal(size=(NUM_ROWS, 2 if "two" in name else 1))
    labels = rng.integers(0, 2 if "binary" in name else 3, NUM_ROWS)
    if name not in ("lstm", "transformer"):
        return images, labels
    lengths = np.concatenate([[0, 5], rng.integers(1, 6, NUM_ROWS - 2)])
    mask = np.arange(5)[None, :] < lengths[:, None]
    tokens = np.where(mask, rng.integers(1, 7, mask.shape), 0).astype(np.int32)
    return {"tokens": tokens, "mask": mask}, labels


def _nnx(name: str, dtype: str) -> tuple[Any, ...]:
    abstract = nnx.eval_shape(lambda: NNX[name](nnx.Rngs(0)))
    for _, part in nnx.iter_modules(abstract):
        if isinstance(part, nnx.Embed):  # the only layer here that casts to its own type
            part.dtype = jnp.dtype(dtype)
        if isinstance(part, nnx.MultiHeadAttention) and dtype == "float64":
            part.attention_fn = attention
    graph, state = nnx.split(abstract)
    return (nnx.merge(graph, _filled(state, dtype)),)


def attention(query, key, value, mask=None, **_settings):
    """What NNX does, without the softmax in single precision of jax.nn.dot_product_attention."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def _linen(name: str, dtype: str, inputs: Any) -> tuple[Any, ...]:
    net = LINEN[name]()
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), _single(inputs)))
    return net, _filled(shapes, dtype)


def _single(inputs: Any) -> Any:
    return jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float32 if a.dtype.kind == "f" else a.dtype), inputs
    )


def _filled(shapes: Any, dtype: str) -> Any:
    """Weights and running statistics drawn at random; initialising op by op takes seconds."""
    rng = np.random.default_rng(2)

    def fill(name: str, leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        if name.endswith(("scale", "var")):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), dtype)
        return jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), dtype)

    leaves = [fill(joined(name), leaf) for name, leaf in named_leaves(shapes)]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)
