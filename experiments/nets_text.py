"""Classifiers over token ids in Flax NNX: an LSTM as in the paper (§6.1.1), and a transformer.

Inputs are {"tokens": (batch, length) integers, "mask": (batch, length), true where a token is not
padding}. What stands in the padding has no influence on the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Sentences = Mapping[str, Any]


@dataclass(frozen=True)
class LstmShape:
    """Sizes of an LSTM classifier; the defaults are 3.4M parameters, as the paper's for SST-2.

    The paper gives no vocabulary and no widths.
    """

    num_tokens: int = 14_800
    embedding: int = 200
    hidden: int = 256
    num_outputs: int = 2


@dataclass(frozen=True)
class TransformerShape:
    """Sizes of a transformer encoder with learned positions.

    Attributes
    ----------
    length : of the longest sentence.
    mlp : units between the two dense layers of a block.
    """

    num_tokens: int = 14_000
    length: int = 64
    width: int = 64
    num_heads: int = 4
    mlp: int = 128
    num_blocks: int = 2
    num_outputs: int = 2


class LstmClassifier(nnx.Module):
    """Embedding, LSTM, and a dense layer on the state after the last token that is no padding."""

    def __init__(self, shape: LstmShape, *, rngs: nnx.Rngs):
        self.shape = shape
        self.embedding = nnx.Embed(shape.num_tokens, shape.embedding, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(shape.embedding, shape.hidden, rngs=rngs))
        self.head = nnx.Linear(shape.hidden, shape.num_outputs, rngs=rngs)

    def __call__(self, inputs: Sentences) -> jax.Array:
        """Outputs (batch, R)."""
        words = self.embedding(inputs["tokens"])
        # NNX would start from its default type, float32, whatever that of the weights.
        zeros = jnp.zeros((words.shape[0], self.shape.hidden), words.dtype)
        lengths = inputs["mask"].astype(jnp.int32).sum(axis=1)
        (_, state), _ = self.rnn(
            words, initial_carry=(zeros, zeros), seq_lengths=lengths, return_carry=True
        )
        # Where there is no token at all, Flax gives the state after the padding.
        return self.head(jnp.where((lengths > 0)[:, None], state, 0))


class EncoderBlock(nnx.Module):
    """Attention and two dense layers, each after a layer norm and beside a shortcut."""

    def __init__(self, shape: TransformerShape, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(shape.width, epsilon=1e-5, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            shape.num_heads, shape.width, decode=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(shape.width, epsilon=1e-5, rngs=rngs)
        self.expand = nnx.Linear(shape.width, shape.mlp, rngs=rngs)
        self.shrink = nnx.Linear(shape.mlp, shape.width, rngs=rngs)

    def __call__(self, values: Any, allowed: Any) -> jax.Array:
        """The sequence (batch, length, width) after the block."""
        values = values + self.attention(self.norm1(values), mask=allowed)
        return values + self.shrink(nnx.gelu(self.expand(self.norm2(values)), approximate=False))


class TransformerEncoder(nnx.Module):
    """Encoder blocks, and a dense layer on the mean over the tokens that are no padding."""

    def __init__(self, shape: TransformerShape, *, rngs: nnx.Rngs):
        self.embedding = nnx.Embed(shape.num_tokens, shape.width, rngs=rngs)
        self.positions = nnx.Embed(shape.length, shape.width, rngs=rngs)
        self.blocks = nnx.List(EncoderBlock(shape, rngs=rngs) for _ in range(shape.num_blocks))
        self.norm = nnx.LayerNorm(shape.width, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(shape.width, shape.num_outputs, rngs=rngs)

    def __call__(self, inputs: Sentences) -> jax.Array:
        """Outputs (batch, R)."""
        tokens, mask = inputs["tokens"], inputs["mask"].astype(bool)
        places = self.positions(jnp.arange(tokens.shape[1]))
        values = self.embedding(tokens) + places[None]
        for block in self.blocks:
            values = block(values, mask[:, None, None, :])
        return self.head(mean_of_tokens(self.norm(values), mask))


def mean_of_tokens(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean (batch, width) of a sequence (batch, length, width); zero for a row of padding."""
    weights = mask.astype(values.dtype)
    total = jnp.einsum("btw,bt->bw", values, weights)
    return total / jnp.maximum(weights.sum(axis=1, keepdims=True), 1)
