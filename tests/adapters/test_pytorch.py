"""State of PyTorch models in Flax modules: outputs are those PyTorch itself computed.

`tests/data/torch_reference.py` wrote the state, the inputs and the outputs with torch 2.13.0.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from numpy.testing import assert_allclose, assert_array_equal

from rainpp.adapters.checkpoint import load_checkpoint, save_checkpoint
from rainpp.adapters.names import joined, named_leaves
from rainpp.adapters.pytorch import from_pytorch
from rainpp.errors import ArtifactError
from rainpp.model import Model

DATA = Path(__file__).parent.parent / "data"
CNN = DATA / "torch_cnn.safetensors"
MODULES = {
    "0": "conv1", "1": "norm1", "4": "conv2", "5": "norm2", "8": "hidden", "10": "head"
}  # fmt: skip
MAP = {"8": (3, 2, 6)}


class NnxCnn(nnx.Module):
    def __init__(self, rngs):
        sides = ((1, 1), (1, 1))
        self.conv1 = nnx.Conv(3, 4, (3, 3), padding="VALID", rngs=rngs)
        self.norm1 = nnx.BatchNorm(4, rngs=rngs)
        self.conv2 = nnx.Conv(4, 6, (3, 3), strides=2, padding=sides, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(6, rngs=rngs)
        self.hidden = nnx.Linear(36, 5, rngs=rngs)
        self.head = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm1(self.conv1(x))), (2, 2), (2, 2))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.head(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


class LinenCnn(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        def norm(name):
            return linen.BatchNorm(use_running_average=not train, name=name)

        x = linen.relu(norm("norm1")(linen.Conv(4, (3, 3), padding="VALID", name="conv1")(x)))
        x = linen.max_pool(x, (2, 2), (2, 2))
        conv2 = linen.Conv(6, (3, 3), 2, padding=((1, 1), (1, 1)), use_bias=False, name="conv2")
        x = linen.relu(norm("norm2")(conv2(x))).reshape(x.shape[0], -1)
        return linen.Dense(3, name="head")(linen.relu(linen.Dense(5, name="hidden")(x)))


def rows_and_outputs(name):
    with np.load(DATA / f"torch_{name}.npz") as arrays:
        return arrays["inputs"], arrays["outputs"]


def channels_last(images):
    return images.transpose(0, 2, 3, 1)


def linen_shapes(module, rows):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.asarray(rows)))


def filled(net, **settings):
    nnx.update(net, from_pytorch(like=net, **settings))
    return Model.from_flax(net)


@pytest.fixture(scope="module")
def net():
    return NnxCnn(nnx.Rngs(0))


def test_a_cnn_in_nnx_has_the_outputs_of_pytorch(net):
    images, outputs = rows_and_outputs("cnn")
    model = filled(net, state=CNN, modules=MODULES, flattened=MAP)
    assert_allclose(model.outputs(model.theta, channels_last(images)), outputs, atol=1e-5)


def test_a_cnn_in_linen_has_the_outputs_of_pytorch():
    images, outputs = rows_and_outputs("cnn")
    like = linen_shapes(LinenCnn(), channels_last(images))
    variables = from_pytorch(CNN, like, modules=MODULES, flattened=MAP)
    assert set(variables) == {"params", "batch_stats"}
    model = Model.from_flax(LinenCnn(), variables)
    assert_allclose(model.outputs(model.theta, channels_last(images)), outputs, atol=1e-5)


def test_without_the_flattened_map_the_outputs_are_others(net):
    images, outputs = rows_and_outputs("cnn")
    model = filled(net, state=CNN, modules=MODULES)
    found = model.outputs(model.theta, channels_last(images))
    assert np.abs(found - outputs).max() > 1e-2


class Sentiment(nnx.Module):
    def __init__(self, rngs, cell):
        self.embedding = nnx.Embed(9, 4, rngs=rngs)
        self.first = nnx.List([nnx.RNN(cell(fan, 5, rngs=rngs)) for fan in (4, 5)])
        self.second = nnx.Bidirectional(
            nnx.RNN(cell(5, 3, rngs=rngs)), nnx.RNN(cell(5, 3, rngs=rngs))
        )
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, tokens):
        states = self.embedding(tokens)
        for layer in self.first:
            states = layer(states)
        return self.head(self.second(states).mean(axis=1))


@pytest.mark.parametrize("cell", [nnx.LSTMCell, nnx.OptimizedLSTMCell])
def test_lstms_of_two_layers_and_directions(cell):
    tokens, outputs = rows_and_outputs("lstm")
    modules = {
        "first.l0": "first.0.cell",
        "first.l1": "first.1.cell",
        "second": "second.forward_rnn.cell",
        "second.l0_reverse": "second.backward_rnn.cell",
    }
    path = DATA / "torch_lstm.safetensors"
    model = filled(Sentiment(nnx.Rngs(0), cell), state=path, modules=modules)
    found = model.outputs(model.theta, tokens.astype(np.int32))
    assert_allclose(found, outputs, atol=1e-5)


def test_linen_lstm_cells_have_the_same_gates():
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    carry = (jnp.ones((3, 3), jnp.float32),) * 2
    state = load_checkpoint(DATA / "torch_lstm.safetensors")["second"]
    state = {f"lstm.{k}": v for k, v in state.items() if not k.endswith("reverse")}
    outputs = []
    for cell in (linen.LSTMCell(3), linen.OptimizedLSTMCell(3)):
        like = jax.eval_shape(lambda cell=cell: cell.init(jax.random.key(0), carry, rows))
        outputs.append(cell.apply(from_pytorch(state, like, modules={"lstm": ""}), carry, rows)[1])
    ours = nnx.LSTMCell(5, 3, rngs=nnx.Rngs(0))
    nnx.update(ours, from_pytorch(state, ours, modules={"lstm": ""}))
    for found in outputs:
        assert_allclose(found, ours(carry, rows)[1], atol=1e-6)


class Encoder(nnx.Module):
    def __init__(self, rngs):
        self.norm1 = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.linear1 = nnx.Linear(8, 6, rngs=rngs)
        self.linear2 = nnx.Linear(6, 8, rngs=rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        x = x + self.linear2(nnx.gelu(self.linear1(self.norm2(x)), approximate=False))
        return self.head(x.mean(axis=1))


def test_a_transformer_encoder_layer():
    rows, outputs = rows_and_outputs("encoder")
    # Everything else of `block` keeps its name; the head is not inside it.
    modules = {"block": "", "head": "head", "block.self_attn": "attention"}
    path = DATA / "torch_encoder.safetensors"
    model = filled(Encoder(nnx.Rngs(0)), state=path, modules=modules)
    assert_allclose(model.outputs(model.theta, rows), outputs, atol=1e-5)


def test_a_mapping_of_arrays_under_a_prefix(net):
    """What torch.nn.DataParallel saves: every name begins with `module.`."""
    images, outputs = rows_and_outputs("cnn")
    arrays = {joined(name): leaf for name, leaf in named_leaves(load_checkpoint(CNN))}
    renamed = {f"module.{MODULES[k.split('.')[0]]}.{k.split('.')[1]}": arrays[k] for k in arrays}
    assert "module.norm1.num_batches_tracked" in renamed
    model = filled(
        net, state=renamed, modules={"module": ""}, flattened={"module.hidden": (3, 2, 6)}
    )
    assert_allclose(model.outputs(model.theta, channels_last(images)), outputs, atol=1e-5)


def test_the_result_saved_as_a_flax_checkpoint_is_the_same_model(net, tmp_path):
    state = from_pytorch(CNN, net, modules=MODULES, flattened=MAP)
    path = save_checkpoint(state, tmp_path / "net.safetensors")
    again = load_checkpoint(path, like=state)
    jax.tree.map(assert_array_equal, again, state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"modules": {}},
            "no `conv1.bias`, `conv1.weight`.*; it has `0.bias`, `0.weight`.*`modules`",
        ),
        ({"modules": {**MODULES, "11": "last"}}, "has nothing under `11` of `modules`"),
        ({"modules": {**MODULES, "4": "conv3"}}, "no `conv2.weight`; it has `4.weight`, which no"),
        ({"flattened": {"8": (2, 2, 6)}}, "a map of 2 x 2 x 6 comes before `8`, which has 36"),
        (
            {"modules": {**MODULES, "8": "head", "10": "hidden"}},
            r"`head.bias` has shape \(5,\); \(3,\) is",
        ),
    ],
)
def test_what_does_not_fit_is_listed(net, change, words):
    with pytest.raises(ArtifactError, match=words):
        from_pytorch(CNN, net, **{"modules": MODULES, "flattened": MAP, **change})


def test_an_extra_array_is_listed_and_counters_are_not(net):
    arrays = {joined(name): leaf for name, leaf in named_leaves(load_checkpoint(CNN))}
    with pytest.raises(ArtifactError, match=r"it has `0\.weight_mask`, which|has `0\.weight_mask`"):
        from_pytorch({**arrays, "0.weight_mask": np.ones(2)}, net, modules=MODULES)
