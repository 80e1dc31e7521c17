"""A trained model through every format it may have been saved in, batch statistics included."""

from __future__ import annotations

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import orbax.checkpoint.experimental.v1 as ocp_v1
import pytest
from flax import linen, nnx, serialization
from numpy.testing import assert_array_equal
from typer.testing import CliRunner

from rainpp.adapters.checkpoint import load_checkpoint, save_checkpoint
from rainpp.cli import app
from rainpp.errors import ArtifactError
from rainpp.model import Model

ROWS = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
LABELS = (ROWS[:, 0] > 0).astype(np.int64)


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(4)(x))
        return linen.Dense(2)(linen.Dropout(0.5, deterministic=not train)(x))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.List([nnx.Linear(4, 2, rngs=rngs)])

    def __call__(self, x):
        return self.last[0](self.dropout(self.norm(self.first(x))))


KEPT = nnx.Any(nnx.Param, nnx.BatchStat)


@functools.cache
def linen_variables(seed=0):
    init = jax.jit(lambda key: LinenNet().init(key, jnp.asarray(ROWS)))
    variables = init(jax.random.key(seed))
    shifted = jax.tree.map(lambda leaf: leaf + 0.25, variables["batch_stats"])
    return {**variables, "batch_stats": shifted}


@functools.cache
def nnx_state(seed=0):
    """Weights, running statistics and the random state of the dropout."""
    net = NnxNet(nnx.Rngs(seed))
    net.norm.mean[...] += 0.25
    return nnx.state(net)


def with_orbax(tree, path):
    with ocp.StandardCheckpointer() as writer:
        writer.save(path, tree)


def with_orbax_steps(tree, path):
    with ocp.CheckpointManager(path) as manager:
        manager.save(3, args=ocp.args.StandardSave(jax.tree.map(lambda leaf: leaf, tree)))
        manager.wait_until_finished()


def with_orbax_v1(tree, path):
    ocp_v1.save(path, tree)


def with_orbax_v1_steps(tree, path):
    with ocp_v1.training.Checkpointer(path) as writer:
        writer.save(3, tree)


def with_orbax_files(tree, path):
    """One file per array instead of one database of them: what Orbax wrote before 2024."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as writer:
        writer.save(path, tree)


def with_flax(tree, path):
    path.write_bytes(serialization.to_bytes(tree))


ORBAX = {
    "model": with_orbax,
    "steps": with_orbax_steps,
    "v1": with_orbax_v1,
    "v1_steps": with_orbax_v1_steps,
    "files": with_orbax_files,
}
OWN = {f"net{suffix}": save_checkpoint for suffix in (".npz", ".safetensors", ".msgpack")}
WRITERS = {**ORBAX, "flax.msgpack": with_flax, **OWN}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    """Writes a tree in one format and gives the path."""

    def to_disk(tree):
        WRITERS[request.param](tree, tmp_path / request.param)
        return tmp_path / request.param

    return to_disk


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(assert_array_equal, *(map(plain, (actual, expected))))


def plain(tree):
    return jax.tree.map(lambda a: jax.random.key_data(a) if is_key(a) else np.asarray(a), tree)


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def test_linen_variables(write):
    path = write(linen_variables())
    shapes = jax.eval_shape(lambda: linen_variables.__wrapped__(1))
    restored = load_checkpoint(path, like=shapes)
    assert_same(restored, linen_variables())
    model = Model.from_flax(LinenNet(), restored)
    assert_array_equal(
        model.outputs(model.theta, ROWS), LinenNet().apply(linen_variables(), jnp.asarray(ROWS))
    )


@pytest.mark.parametrize("name", [*ORBAX, *OWN])  # flax.serialization takes no NNX state
def test_nnx_state_with_its_random_keys(name, tmp_path):
    path = tmp_path / name
    WRITERS[name](nnx_state(), path)
    net = NnxNet(nnx.Rngs(1))
    assert_same(load_checkpoint(path, like=nnx.state(net)), nnx_state())
    kept = load_checkpoint(path, like=nnx.state(net, KEPT), ignore_extra=True)
    nnx.update(net, kept)
    assert_same(nnx.state(net, KEPT), nnx.filter_state(nnx_state(), KEPT))


def test_training_states_hold_more_than_the_model(write):
    state = {**linen_variables(), "opt_state": [{"mu": np.ones(2)}, {}], "step": np.asarray(7)}
    path = write(state)
    wanted = linen_variables(1)
    with pytest.raises(ArtifactError, match=r"has an extra `opt_state.*ignore_extra"):
        load_checkpoint(path, like=wanted)
    assert_same(load_checkpoint(path, like=wanted, ignore_extra=True), linen_variables())
    more = {**wanted, "params": {**wanted["params"], "Dense_2": {"bias": np.ones(2)}}}
    with pytest.raises(ArtifactError, match=r"is missing `params\.Dense_2\.bias`"):
        load_checkpoint(path, like=more, ignore_extra=True)


def test_another_width_is_named(write):
    path = write(linen_variables())
    other = jax.tree.map(lambda leaf: leaf, linen_variables())
    other["params"]["Dense_1"]["kernel"] = np.ones((5, 2), np.float32)
    with pytest.raises(
        ArtifactError, match=r"`params.Dense_1.kernel` has shape \(4, 2\); \(5, 2\)"
    ):
        load_checkpoint(path, like=other)


# --- rainpp precompute ----------------------------------------------------------------------------

FACTORIES = f"""
import jax
from flax import nnx
import rainpp
from {__name__} import KEPT, LinenNet, NnxNet, linen_variables

def of_linen(path):
    shapes = jax.eval_shape(lambda: linen_variables.__wrapped__(1))
    return rainpp.Model.from_flax(LinenNet(), rainpp.load_checkpoint(path, like=shapes), l2=1e-2)

def of_nnx(path):
    net = NnxNet(nnx.Rngs(1))
    like = nnx.state(net, KEPT)
    nnx.update(net, rainpp.load_checkpoint(path, like=like, ignore_extra=True))
    return rainpp.Model.from_flax(net, l2=1e-2)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module of factories and training rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[test_linen_variables.__module__])
    (tmp_path / "rainpp_test_nets.py").write_text(FACTORIES)
    np.savez(tmp_path / "rows.npz", inputs=ROWS, labels=LABELS)
    yield tmp_path
    sys.modules.pop("rainpp_test_nets", None)


def precompute(checkpoint, factory):
    words = ["--model", f"rainpp_test_nets:{factory}", "--training", "rows.npz", "--k", "2"]
    return CliRunner().invoke(
        app, ["precompute", checkpoint, *words, "--index", "net.rain", "--json"]
    )


@pytest.mark.filterwarnings("ignore:.*optimum")
@pytest.mark.parametrize(
    ("name", "factory"),
    [
        ("model", "of_linen"),
        pytest.param("flax.msgpack", "of_linen", marks=pytest.mark.slow),
        ("net.safetensors", "of_linen"),
        ("v1", "of_nnx"),
        pytest.param("v1_steps", "of_nnx", marks=pytest.mark.slow),
        ("net.npz", "of_nnx"),
    ],
)
def test_precompute_takes_it(name, factory, here):
    WRITERS[name](linen_variables() if factory == "of_linen" else nnx_state(), here / name)
    result = precompute(name, factory)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["k"] == 2
    assert (here / "net.rain").exists()


def test_precompute_says_what_is_wrong_with_a_checkpoint(here):
    save_checkpoint({"params": linen_variables()["params"]}, here / "net.npz")
    result = precompute("net.npz", "of_linen")
    assert result.exit_code == 1
    assert "net.npz`: the saved tree is missing `batch_stats.BatchNorm_0.mean`" in result.stderr
    assert not (here / "net.rain").exists()
