"""The convolutional networks and linear heads of the paper (§6.1.1), in Flax NNX.

`experiments.nets_linen` has the same networks in Flax Linen, `experiments.nets_text` the networks
over tokens. All take inputs with rows first and return outputs (batch, R).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

# Blocks in each of the three groups of a Wide ResNet, by the layers the paper gives it. With twice
# the width and shortcuts of 3 x 3 they have its sizes: 389 722, 777 690 and 1 553 626 parameters.
PAPER_BLOCKS = {10: 1, 18: 2, 26: 4}


@dataclass(frozen=True)
class CnnShape:
    """Sizes of a convolutional network; the defaults are the paper's 1.2M parameters on MNIST.

    Attributes
    ----------
    image : height, width and channels of an input.
    channels : of every 3 x 3 convolution, in order.
    pools : the side of the max pooling after each convolution; 1 is none.
    hidden : units of the dense layer before the outputs.
    num_outputs : R, or 1 for a binary logit or a regression.
    batch_norm : after every convolution.
    """

    image: tuple[int, int, int] = (28, 28, 1)
    channels: tuple[int, ...] = (32, 64)
    pools: tuple[int, ...] = (1, 2)
    hidden: int = 128
    num_outputs: int = 10
    batch_norm: bool = False

    @property
    def flattened(self) -> tuple[int, int, int]:
        """Height, width and channels of the feature map before the dense layers."""
        height, width, _ = self.image
        for side in self.pools:
            height, width = (height - 2) // side, (width - 2) // side
        return height, width, self.channels[-1]


@dataclass(frozen=True)
class WideResNetShape:
    """Sizes of a Wide ResNet (Zagoruyko and Komodakis 2016); the defaults are the WRN-26.

    Attributes
    ----------
    blocks : residual blocks in each group; see `PAPER_BLOCKS`.
    width : factor of the channels 16, 32, 64.
    num_channels : of an input image.
    remat : compute each block again in a backward pass instead of keeping what is inside it.
    """

    blocks: int = 4
    width: int = 2
    num_channels: int = 3
    num_outputs: int = 10
    groups: tuple[int, ...] = (16, 32, 64)
    remat: bool = False

    def plan(self) -> list[tuple[int, int, int]]:
        """Channels in, channels out and stride of every block."""
        planned: list[tuple[int, int, int]] = []
        before = self.groups[0]
        for group, base in enumerate(self.groups):
            for block in range(self.blocks):
                planned.append((before, base * self.width, 2 if group and not block else 1))
                before = base * self.width
        return planned


class Cnn(nnx.Module):
    """Convolutions without padding, ReLU and max pooling; then two dense layers."""

    def __init__(self, shape: CnnShape, *, rngs: nnx.Rngs):
        self.shape = shape
        before = (shape.image[2], *shape.channels[:-1])
        self.convs = nnx.List(
            nnx.Conv(fan_in, fan_out, (3, 3), padding="VALID", rngs=rngs)
            for fan_in, fan_out in zip(before, shape.channels, strict=True)
        )
        norms = shape.channels if shape.batch_norm else ()
        self.norms = nnx.List(nnx.BatchNorm(width, rngs=rngs) for width in norms)
        height, width, channels = shape.flattened
        self.hidden = nnx.Linear(height * width * channels, shape.hidden, rngs=rngs)
        self.head = nnx.Linear(shape.hidden, shape.num_outputs, rngs=rngs)

    def __call__(self, images: Any) -> jax.Array:
        """Outputs (batch, R) of images (batch, height, width, channels)."""
        values = images
        for layer, (conv, side) in enumerate(zip(self.convs, self.shape.pools, strict=True)):
            values = conv(values)
            if self.norms:
                values = self.norms[layer](values)
            values = nnx.relu(values)
            if side > 1:
                values = nnx.max_pool(values, (side, side), (side, side))
        return self.head(nnx.relu(self.hidden(values.reshape(values.shape[0], -1))))


class Block(nnx.Module):
    """Two times batch norm, ReLU and a 3 x 3 convolution, beside a shortcut."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.BatchNorm(fan_in, rngs=rngs)
        self.conv1 = _conv(fan_in, fan_out, stride, rngs)
        self.norm2 = nnx.BatchNorm(fan_out, rngs=rngs)
        self.conv2 = _conv(fan_out, fan_out, 1, rngs)
        same = fan_in == fan_out and stride == 1
        self.shortcut = nnx.data(None if same else _conv(fan_in, fan_out, stride, rngs))

    def __call__(self, values: Any) -> jax.Array:
        """The feature map (batch, height, width, channels) after the block."""
        active = nnx.relu(self.norm1(values))
        beside = values if self.shortcut is None else self.shortcut(active)
        return beside + self.conv2(nnx.relu(self.norm2(self.conv1(active))))


class WideResNet(nnx.Module):
    """Residual network with batch norm before every convolution, and few but wide layers."""

    def __init__(self, shape: WideResNetShape, *, rngs: nnx.Rngs):
        plan = shape.plan()
        self.run = nnx.remat(Block.__call__) if shape.remat else Block.__call__
        self.stem = _conv(shape.num_channels, shape.groups[0], 1, rngs)
        self.blocks = nnx.List(Block(*sizes, rngs=rngs) for sizes in plan)
        self.norm = nnx.BatchNorm(plan[-1][1], rngs=rngs)
        self.head = nnx.Linear(plan[-1][1], shape.num_outputs, rngs=rngs)

    def __call__(self, images: Any) -> jax.Array:
        """Outputs (batch, R) of images (batch, height, width, channels)."""
        values = self.stem(images)
        for block in self.blocks:
            values = self.run(block, values)
        return self.head(nnx.relu(self.norm(values)).mean(axis=(1, 2)))


class Linear(nnx.Module):
    """A linear model over flattened inputs.

    With cross_entropy it is logistic regression; with one output and binary_cross_entropy a binary
    logit; with squared_error linear regression.
    """

    def __init__(self, num_inputs: int, num_outputs: int = 10, *, rngs: nnx.Rngs):
        self.head = nnx.Linear(num_inputs, num_outputs, rngs=rngs)

    def __call__(self, rows: Any) -> jax.Array:
        """Outputs (batch, R)."""
        return self.head(rows.reshape(rows.shape[0], -1))


class Mlp(nnx.Module):
    """Dense layers with tanh; with squared_error a network with a regression head."""

    def __init__(self, widths: Sequence[int], *, rngs: nnx.Rngs):
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List(nnx.Linear(*pair, rngs=rngs) for pair in pairs)

    def __call__(self, rows: Any) -> jax.Array:
        """Outputs (batch, widths[-1])."""
        values = rows.reshape(rows.shape[0], -1)
        for layer in self.layers[:-1]:
            values = nnx.tanh(layer(values))
        return self.layers[-1](values)


def _conv(fan_in: int, fan_out: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    # Padding of one on every side, as in PyTorch: "SAME" pads only one side where the stride is 2.
    sides = ((1, 1), (1, 1))
    return nnx.Conv(
        fan_in, fan_out, (3, 3), strides=stride, padding=sides, use_bias=False, rngs=rngs
    )
