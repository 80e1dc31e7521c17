"""Every format gives back what was saved; anything damaged or foreign is one clear error."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import namedtuple

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from flax import nnx, serialization
from numpy.testing import assert_array_equal

from rainpp.adapters.checkpoint import load_checkpoint, save_checkpoint
from rainpp.adapters.names import restore_like
from rainpp.errors import ArtifactError

SUFFIXES = (".npz", ".safetensors", ".msgpack")
TREE = {
    "dense": {"kernel": np.arange(12, dtype=np.float32).reshape(4, 3), "bias": np.zeros(3)},
    "file": {"scale": np.float32(2.5)},
}


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert_array_equal(a, b)


def save_orbax(tree, path):
    with ocp.StandardCheckpointer() as writer:
        writer.save(path, tree)
    return path


@pytest.fixture(params=[*SUFFIXES, "orbax"])
def saved(request, tmp_path):
    """TREE on disk in each format."""
    if request.param == "orbax":
        return save_orbax(TREE, tmp_path / "model.ckpt")
    return save_checkpoint(TREE, tmp_path / f"model{request.param}")


def test_round_trip(saved):
    assert_same(load_checkpoint(saved), TREE)
    assert_same(load_checkpoint(str(saved), like=TREE), TREE)


def test_like_gives_shapes_without_arrays_and_casts_floats(saved):
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), TREE)
    assert_same(
        load_checkpoint(saved, like=like), jax.tree.map(lambda a: a.astype(jnp.bfloat16), TREE)
    )


Layer = namedtuple("Layer", "kernel bias")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "tree",
    [
        [Layer(np.ones((2, 3)), np.zeros(3)), (np.float32(1), {"deep": np.arange(2)})],
        np.arange(4.0),
        {"m": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "t": np.arange(6.0).reshape(2, 3).T},
        {"allow_pickle": np.ones(2), "name": np.array([True, False])},
        {"empty": np.zeros((0, 3)), "half": np.ones(2, np.float16)},
    ],
)
def test_any_structure_comes_back_with_like(tree, suffix, tmp_path):
    path = save_checkpoint(tree, tmp_path / f"p{suffix}")
    assert_same(load_checkpoint(path, like=tree), tree)
    if not isinstance(tree, list):
        assert_same(load_checkpoint(path), tree)


@pytest.mark.parametrize("suffix", [".safetensors", ".msgpack"])
def test_bfloat16(suffix, tmp_path):
    tree = {"w": jnp.ones((2, 2), jnp.bfloat16)}
    assert_same(load_checkpoint(save_checkpoint(tree, tmp_path / f"p{suffix}")), tree)


def test_npz_refuses_what_it_would_lose(tmp_path):
    with pytest.raises(ArtifactError, match=r"`w` has type bfloat16.*safetensors"):
        save_checkpoint({"w": jnp.ones(2, jnp.bfloat16)}, tmp_path / "p.npz")
    assert list(tmp_path.iterdir()) == []


# -- files other programs wrote


def test_flax_msgpack(tmp_path):
    path = tmp_path / "m.msgpack"
    path.write_bytes(serialization.to_bytes({"a": [np.ones(2), np.zeros(1)], "step": 3}))
    tree = load_checkpoint(path)
    assert_array_equal(tree["a"]["0"], np.ones(2))
    assert tree["step"] == 3


def test_plain_npz_and_safetensors_with_dots(tmp_path):
    flat = {"fc1.weight": np.ones((2, 3), np.float32), "fc1.bias": np.zeros(2, np.float32)}
    np.savez(tmp_path / "a.npz", **flat)
    safetensors.numpy.save_file(flat, tmp_path / "a.safetensors")
    nested = {"fc1": {"weight": flat["fc1.weight"], "bias": flat["fc1.bias"]}}
    for name in ("a.npz", "a.safetensors"):
        assert_same(load_checkpoint(tmp_path / name), nested)
        assert_same(load_checkpoint(tmp_path / name, like=flat), flat)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 2, rngs=rngs), nnx.Linear(2, 2, rngs=rngs)])
        self.norm = nnx.BatchNorm(2, rngs=rngs)


@pytest.mark.parametrize("suffix", [*SUFFIXES, "orbax", "orbax pure"])
def test_nnx_state(suffix, tmp_path):
    state = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    if suffix.startswith("orbax"):
        tree = nnx.to_pure_dict(state) if suffix.endswith("pure") else state
        path = save_orbax(tree, tmp_path / "net")
    else:
        path = save_checkpoint(state, tmp_path / f"net{suffix}")
    other = Net(nnx.Rngs(1))
    nnx.update(other, load_checkpoint(path, like=nnx.state(other, nnx.Param)))
    assert_same(nnx.state(other, nnx.Param), state)
    assert set(load_checkpoint(path)["layers"]["0"]) == {"kernel", "bias"}


def test_orbax_manager_gives_its_latest_step(tmp_path):
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in (2, 10):
            manager.save(step, args=ocp.args.StandardSave({"w": np.full(2, float(step))}))
        manager.wait_until_finished()
    assert_array_equal(load_checkpoint(tmp_path / "run")["w"], [10.0, 10.0])
    assert_array_equal(load_checkpoint(tmp_path / "run" / "2")["w"], [2.0, 2.0])


def test_orbax_with_several_trees_asks_which(tmp_path):
    trees = {name: ocp.args.StandardSave({"w": np.ones(2)}) for name in ("params", "optimiser")}
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(1, args=ocp.args.Composite(**trees))
        manager.wait_until_finished()
    with pytest.raises(ArtifactError, match="the trees optimiser, params; give the path of one"):
        load_checkpoint(tmp_path / "run")
    assert_array_equal(load_checkpoint(tmp_path / "run" / "1" / "params")["w"], [1.0, 1.0])


# -- what must be refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["dense"].pop("bias"), "has an extra `dense.bias`"),
        (lambda t: t.update(more=np.ones(2)), "is missing `more`"),
        (lambda t: t["dense"].update(bias=np.ones(4)), r"`dense.bias` has shape \(3,\); \(4,\) is"),
        (lambda t: t["dense"].update(bias=np.ones(3, int)), "`dense.bias` has type float64; int64"),
    ],
)
def test_another_model_is_named(saved, change, words):
    like = jax.tree.map(lambda leaf: leaf, TREE)
    change(like)
    with pytest.raises(ArtifactError, match=words):
        load_checkpoint(saved, like=like)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.95, 0.999])
def test_truncated_file(suffix, share, tmp_path):
    path = save_checkpoint(TREE, tmp_path / f"p{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ArtifactError, match=f"`.*p{suffix}`") as caught:
        load_checkpoint(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"not a checkpoint\n", b"\x80\x04\x95", b"\x00" * 64, b"\xc0"])
def test_foreign_bytes(suffix, content, tmp_path):
    path = tmp_path / f"p{suffix}"
    path.write_bytes(content)
    with pytest.raises(ArtifactError):
        load_checkpoint(path)


# Orbax closes its event loop on the first array it cannot read while reads of others are under way.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_truncation_of_an_orbax_directory(tmp_path):
    path = save_orbax(TREE, tmp_path / "model.ckpt")
    files = [f for f in path.rglob("*") if f.is_file() and f.stat().st_size]
    refused = 0
    for file in files:
        whole = file.read_bytes()
        for length in (0, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            try:
                tree = load_checkpoint(path)
            except ArtifactError:
                refused += 1
            else:
                assert_same(tree, TREE)
        file.write_bytes(whole)
    assert refused >= 6


def test_a_flipped_byte_in_npz_is_noticed(tmp_path):
    path = save_checkpoint(TREE, tmp_path / "p.npz")
    data = bytearray(path.read_bytes())
    data[data.find(TREE["dense"]["kernel"].tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged"):
        load_checkpoint(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bombed",)


def test_pickle_inside_npz_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array = np.empty(1, dtype=object)
    array[0] = Bomb()
    np.savez("p.npz", w=array)
    with pytest.raises(ArtifactError, match=r"p\.npz"):
        load_checkpoint("p.npz")
    assert not (tmp_path / "bombed").exists()


def test_bare_pickle_called_npz_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ArtifactError):
        load_checkpoint("p.npz")
    assert not (tmp_path / "bombed").exists()


@pytest.mark.parametrize(
    "payload",
    [
        msgpack.ExtType(42, b"\x80\x04"),
        msgpack.ExtType(1, msgpack.packb(((1,), "object", b"\x00" * 8))),
        b"\x80\x04\x95",
    ],
)
def test_object_payloads_in_msgpack_are_refused(payload, tmp_path):
    path = tmp_path / "p.msgpack"
    path.write_bytes(msgpack.packb({"w": payload}))
    with pytest.raises(ArtifactError):
        load_checkpoint(path)


def test_single_array_npy_in_disguise(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    (tmp_path / "p.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ArtifactError, match="single array without a name"):
        load_checkpoint(tmp_path / "p.npz")


def test_names_that_contradict_each_other(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        for entry in ("a.npy", "a/b.npy"):
            with archive.open(entry, "w") as member:
                np.lib.format.write_array(member, np.ones(2))
    with pytest.raises(ArtifactError, match=r"`a\.b` continues that of another array"):
        load_checkpoint(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.npz", "does not exist"),
        ("model.pkl", "format rainpp does not read.*Pickled"),
        ("folder", "no saved tree"),
    ],
)
def test_nothing_to_read(name, words, tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(TREE["file"]))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtifactError, match=words):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("tree", "name", "words"),
    [
        (TREE, "p.pkl", "must end in .msgpack, .npz, .safetensors"),
        ({}, "p.npz", "no arrays"),
        ({"w": "text"}, "p.npz", "`w` is a str"),
        ({"a/b": np.ones(1)}, "p.npz", "`a/b` cannot be told from a path"),
        (TREE, "no/such/folder/p.npz", "cannot write .*No such file"),
    ],
)
def test_what_cannot_be_saved(tree, name, words, tmp_path):
    with pytest.raises(ArtifactError, match=words):
        save_checkpoint(tree, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = save_checkpoint({"w": np.ones(2)}, tmp_path / "p.npz")
    with pytest.raises(ArtifactError):
        save_checkpoint({"w": np.ones(2), "v": jnp.ones(2, jnp.bfloat16)}, path)
    assert_array_equal(load_checkpoint(path)["w"], np.ones(2))
    assert [child.name for child in tmp_path.iterdir()] == ["p.npz"]


def test_restore_like_takes_one_array_under_any_name():
    assert_array_equal(restore_like({"theta": np.ones(2)}, np.zeros(2)), np.ones(2))
