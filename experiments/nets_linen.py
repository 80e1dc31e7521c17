"""The networks of `experiments.nets` and `experiments.nets_text` in Flax Linen.

Submodules have the same names, `blocks_0` for the NNX `blocks[0]`. `train` is false unless said.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from experiments.nets import CnnShape, WideResNetShape
from experiments.nets_text import LstmShape, Sentences, TransformerShape, mean_of_tokens


class Cnn(linen.Module):
    """Convolutions without padding, ReLU and max pooling; then two dense layers."""

    shape: CnnShape

    def setup(self) -> None:
        """The layers."""
        channels = self.shape.channels
        self.convs = [linen.Conv(width, (3, 3), padding="VALID") for width in channels]
        norms = channels if self.shape.batch_norm else ()
        self.norms = [linen.BatchNorm() for _ in norms]
        self.hidden = linen.Dense(self.shape.hidden)
        self.head = linen.Dense(self.shape.num_outputs)

    def __call__(self, images: Any, train: bool = False) -> jax.Array:
        """Outputs (batch, R) of images (batch, height, width, channels)."""
        values = images
        for layer, (conv, side) in enumerate(zip(self.convs, self.shape.pools, strict=True)):
            values = conv(values)
            if self.norms:
                values = self.norms[layer](values, use_running_average=not train)
            values = linen.relu(values)
            if side > 1:
                values = linen.max_pool(values, (side, side), (side, side))
        return self.head(linen.relu(self.hidden(values.reshape(values.shape[0], -1))))


class Block(linen.Module):
    """Two times batch norm, ReLU and a 3 x 3 convolution, beside a shortcut."""

    fan_in: int
    fan_out: int
    stride: int

    def setup(self) -> None:
        """The layers."""
        self.norm1, self.norm2 = linen.BatchNorm(), linen.BatchNorm()
        self.conv1 = _conv(self.fan_out, self.stride)
        self.conv2 = _conv(self.fan_out, 1)
        if self.fan_in != self.fan_out or self.stride > 1:
            self.shortcut = _conv(self.fan_out, self.stride)

    def __call__(self, values: Any, train: bool = False) -> jax.Array:
        """The feature map (batch, height, width, channels) after the block."""
        same = self.fan_in == self.fan_out and self.stride == 1
        active = linen.relu(self.norm1(values, use_running_average=not train))
        beside = values if same else self.shortcut(active)
        between = self.norm2(self.conv1(active), use_running_average=not train)
        return beside + self.conv2(linen.relu(between))


class WideResNet(linen.Module):
    """Residual network with batch norm before every convolution, and few but wide layers."""

    shape: WideResNetShape

    def setup(self) -> None:
        """The layers."""
        self.stem = _conv(self.shape.groups[0], 1)
        self.blocks = [Block(*sizes) for sizes in self.shape.plan()]
        self.norm = linen.BatchNorm()
        self.head = linen.Dense(self.shape.num_outputs)

    def __call__(self, images: Any, train: bool = False) -> jax.Array:
        """Outputs (batch, R) of images (batch, height, width, channels)."""
        values = self.stem(images)
        for block in self.blocks:
            values = block(values, train)
        values = self.norm(values, use_running_average=not train)
        return self.head(linen.relu(values).mean(axis=(1, 2)))


class LstmClassifier(linen.Module):
    """Embedding, LSTM, and a dense layer on the state after the last token that is no padding."""

    shape: LstmShape

    def setup(self) -> None:
        """The layers."""
        self.embedding = linen.Embed(self.shape.num_tokens, self.shape.embedding)
        self.rnn = linen.RNN(linen.OptimizedLSTMCell(self.shape.hidden), return_carry=True)
        self.head = linen.Dense(self.shape.num_outputs)

    def __call__(self, inputs: Sentences) -> jax.Array:
        """Outputs (batch, R)."""
        words = self.embedding(inputs["tokens"])
        # Linen would start from its default type, float32, whatever that of the weights.
        zeros = jnp.zeros((words.shape[0], self.shape.hidden), words.dtype)
        lengths = inputs["mask"].astype(jnp.int32).sum(axis=1)
        (_, state), _ = self.rnn(words, initial_carry=(zeros, zeros), seq_lengths=lengths)
        # Where there is no token at all, Flax gives the state after the padding.
        return self.head(jnp.where((lengths > 0)[:, None], state, 0))


class EncoderBlock(linen.Module):
    """Attention and two dense layers, each after a layer norm and beside a shortcut."""

    shape: TransformerShape

    def setup(self) -> None:
        """The layers."""
        self.norm1 = linen.LayerNorm(epsilon=1e-5)
        self.norm2 = linen.LayerNorm(epsilon=1e-5)
        self.attention = linen.MultiHeadDotProductAttention(self.shape.num_heads)
        self.expand = linen.Dense(self.shape.mlp)
        self.shrink = linen.Dense(self.shape.width)

    def __call__(self, values: Any, allowed: Any) -> jax.Array:
        """The sequence (batch, length, width) after the block."""
        values = values + self.attention(self.norm1(values), mask=allowed)
        between = linen.gelu(self.expand(self.norm2(values)), approximate=False)
        return values + self.shrink(between)


class TransformerEncoder(linen.Module):
    """Encoder blocks, and a dense layer on the mean over the tokens that are no padding."""

    shape: TransformerShape

    def setup(self) -> None:
        """The layers."""
        self.embedding = linen.Embed(self.shape.num_tokens, self.shape.width)
        self.positions = linen.Embed(self.shape.length, self.shape.width)
        self.blocks = [EncoderBlock(self.shape) for _ in range(self.shape.num_blocks)]
        self.norm = linen.LayerNorm(epsilon=1e-5)
        self.head = linen.Dense(self.shape.num_outputs)

    def __call__(self, inputs: Sentences) -> jax.Array:
        """Outputs (batch, R)."""
        tokens, mask = inputs["tokens"], inputs["mask"].astype(bool)
        values = self.embedding(tokens) + self.positions(jnp.arange(tokens.shape[1]))[None]
        for block in self.blocks:
            values = block(values, mask[:, None, None, :])
        return self.head(mean_of_tokens(self.norm(values), mask))


def _conv(width: int, stride: int) -> linen.Conv:
    return linen.Conv(width, (3, 3), stride, padding=((1, 1), (1, 1)), use_bias=False)
