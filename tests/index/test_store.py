"""The index on disk: every bit comes back, every damage is noticed, no interruption loses it."""

from __future__ import annotations

import builtins
import io
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rainpp
from rainpp.errors import ArtifactError, SettingsError
from rainpp.index import store
from tests.online import make_scene

MANIFEST = {"num_train": 5, "l2": 1e-4, "nested": {"a": [1, 2.5, None, "é"]}}
ARRAYS = {
    "values": np.array([3.0, 0.5, -0.0, np.nan, np.inf]),
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "mirror": np.arange(12, dtype=np.float32).reshape(3, 4)[::-1],
    "labels": np.array([2, 0, 1], np.int32),
    "ids": np.array(["a", "ccc", "bb"]),
}
OTHER = {**ARRAYS, "values": np.array([9.0, 8.0]), "extra": np.ones((2, 2, 2))}
FLIPS = (0x01, 0x20, 0x80)


def same(left, right):
    """Whether two arrays agree in type, shape and every bit."""
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


def holds(path, arrays, manifest=MANIFEST, *, verify=True):
    """Whether the index at `path` is exactly this one."""
    found_manifest, found = store.read(path, verify=verify)
    body = {name: found_manifest[name] for name in manifest}
    matching = found.keys() == arrays.keys() and all(same(found[n], arrays[n]) for n in arrays)
    return matching and body == manifest


def refusal(path, *, verify=True):
    """The message `read` refuses `path` with: one clear line that names it."""
    with pytest.raises(ArtifactError) as caught:
        store.read(path, verify=verify)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def array_file(path, name):
    return path / json.loads((path / "manifest.json").read_bytes())["arrays"][name]["file"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """A sync to the disk costs milliseconds and shows nothing here; one test asks for it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def leftovers(path):
    return [str(item) for item in path.rglob("*.tmp")]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.rain"
    store.write(path, MANIFEST, ARRAYS)
    return path


# --- what is written comes back


@given(
    array=hnp.arrays(
        st.sampled_from(["<f4", "<f8", ">f4", "<i4", "<i8", "|u1", "|b1", "<U3", "<f2", "<c16"]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    ),
    columns_first=st.booleans(),
)
def test_any_array_comes_back_bit_for_bit_and_memory_mapped(array, columns_first):
    array = np.asfortranarray(array) if columns_first else array
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.rain"
        store.write(path, {}, {"array": array})
        found = store.read(path)[1]["array"]
        assert same(found, array)
        assert mapped(found) or found.size == 0 or found.size == 0  # an empty file cannot be mapped


def mapped(array):
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def test_the_manifest_comes_back_with_its_schema(saved):
    assert holds(saved, ARRAYS)
    assert store.read(saved)[0]["schema"] == store.SCHEMA


def test_a_mapped_index_cannot_be_changed_by_its_reader(saved):
    with pytest.raises(ValueError, match="read-only"):
        store.read(saved)[1]["labels"][0] = 7


def test_a_second_write_replaces_the_first_and_leaves_none_of_its_files(saved):
    mapped_before = store.read(saved)[1]
    store.write(saved, {**MANIFEST, "num_train": 6}, OTHER)
    assert holds(saved, OTHER, {**MANIFEST, "num_train": 6})
    assert len(list((saved / "arrays").iterdir())) == len(OTHER)
    assert not leftovers(saved)
    assert all(same(mapped_before[name], ARRAYS[name]) for name in ARRAYS)  # still readable


def test_writing_the_same_index_twice_gives_the_same_files(saved):
    def contents():
        return {p: p.read_bytes() for p in saved.rglob("*") if p.is_file()}

    before = contents()
    store.write(saved, MANIFEST, ARRAYS)
    assert contents() == before


def test_missing_parent_directories_are_made_and_an_empty_directory_is_used(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "one" / "two" / "x.rain"):
        store.write(path, MANIFEST, ARRAYS)
        assert holds(path, ARRAYS)


# --- damage


@pytest.mark.parametrize("flip", FLIPS)
def test_a_flipped_bit_anywhere_in_the_manifest_is_refused_or_changes_nothing(saved, flip):
    file = saved / "manifest.json"
    good = file.read_bytes()
    accepted = []
    for position in range(len(good)):
        file.write_bytes(good[:position] + bytes([good[position] ^ flip]) + good[position + 1 :])
        try:
            store.read(saved)
        except ArtifactError:
            assert "damaged" in refusal(saved)
        else:
            accepted.append(position)
            assert json.loads(file.read_bytes()) == json.loads(good)
            assert holds(saved, ARRAYS)
    # Only the case of an exponent's "e" and the kind of white space carry no meaning.
    assert all(chr(good[position]) in "e \n" for position in accepted)


@pytest.mark.parametrize("name", sorted(ARRAYS))
@pytest.mark.parametrize("flip", FLIPS)
def test_a_flipped_bit_anywhere_in_an_array_file_is_refused(saved, name, flip):
    file = array_file(saved, name)
    good = file.read_bytes()
    for position in range(len(good)):
        file.write_bytes(good[:position] + bytes([good[position] ^ flip]) + good[position + 1 :])
        assert "checksum" in refusal(saved)
    file.write_bytes(good)
    assert holds(saved, ARRAYS)


@given(position=st.integers(0, 128 + 8 * 40_000 - 1), flip=st.integers(1, 255))
def test_a_flipped_byte_in_a_large_array_is_refused(large, position, flip):
    path, file, good = large
    with file.open("r+b") as stream:
        stream.seek(position)
        stream.write(bytes([good[position] ^ flip]))
    try:
        assert "checksum" in refusal(path)
    finally:
        file.write_bytes(good)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "x.rain"
    store.write(path, {}, {"big": np.arange(40_000.0)})
    file = array_file(path, "big")
    assert file.stat().st_size == 128 + 8 * 40_000
    return path, file, file.read_bytes()


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_a_truncated_or_longer_array_file_is_refused(saved, name, verify):
    file = array_file(saved, name)
    good = file.read_bytes()
    for length in [0, 1, 6, 10, 64, 127, 128, len(good) - 1]:
        if length == len(good):
            continue
        file.write_bytes(good[:length])
        assert f"{length} bytes instead of {len(good)}" in refusal(saved, verify=verify)
    file.write_bytes(good + b"\0")
    assert "instead of" in refusal(saved, verify=verify)


def test_a_truncated_manifest_is_refused_at_every_length(saved):
    file = saved / "manifest.json"
    good = file.read_bytes()
    for length in range(len(good)):
        file.write_bytes(good[:length])
        assert "damaged" in refusal(saved)


@pytest.mark.parametrize(
    "junk", [b"", b"null", b"[]", b"{}", b'"x"', b"3", b"\xff\xfe\x00", b'{"schema": 1}', b"\0\0"]
)
def test_a_manifest_that_is_none_is_refused(saved, junk):
    (saved / "manifest.json").write_bytes(junk)
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("name", sorted(ARRAYS))
@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_array_file_is_named(saved, name, verify):
    file = array_file(saved, name)
    file.unlink()
    message = refusal(saved, verify=verify)
    assert "incomplete" in message
    assert file.name in message


def test_a_missing_manifest_directory_or_index_is_told_apart(saved, tmp_path):
    assert "no index" in refusal(tmp_path / "nowhere.rain")
    shutil.rmtree(saved / "arrays")
    assert "incomplete" in refusal(saved)
    (saved / "manifest.json").unlink()
    assert "interrupted" in refusal(saved)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    assert "no index" in refusal(file)


def test_two_swapped_array_files_are_refused(saved):
    # `matrix` and `mirror` have one type, shape and size: only the checksum can tell.
    first, second = array_file(saved, "matrix"), array_file(saved, "mirror")
    swapped = first.read_bytes(), second.read_bytes()
    second.write_bytes(swapped[0])
    first.write_bytes(swapped[1])
    assert "checksum" in refusal(saved)


def test_an_array_of_another_shape_under_the_same_size_is_refused_even_unverified(saved):
    file = array_file(saved, "matrix")
    with file.open("wb") as stream:
        np.save(stream, ARRAYS["matrix"].reshape(4, 3))
    assert "does not hold the matrix" in refusal(saved, verify=False)


def test_another_index_of_another_schema_is_refused_with_both_numbers(saved):
    foreign = store._seal({**json.loads((saved / "manifest.json").read_bytes()), "schema": 99})
    (saved / "manifest.json").write_text(json.dumps(foreign))
    message = refusal(saved)
    assert "schema 99" in message
    assert f"schema {store.SCHEMA}" in message


# --- where an index may be written


@pytest.mark.parametrize("inside", ["notes.txt", ".hidden", "sub/deep.txt"])
def test_a_directory_with_other_things_in_it_is_refused_and_untouched(tmp_path, inside):
    precious = tmp_path / "mine" / inside
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(ArtifactError, match="other things") as caught:
        store.write(tmp_path / "mine", MANIFEST, ARRAYS)
    assert "\n" not in str(caught.value)
    assert [p for p in (tmp_path / "mine").rglob("*") if p.is_file()] == [precious]
    assert precious.read_text() == "precious"


def test_a_file_is_refused_and_untouched(tmp_path):
    file = tmp_path / "model.npz"
    file.write_text("precious")
    for path in (file, file / "below.rain"):
        with pytest.raises(ArtifactError, match=r"model\.npz"):
            store.write(path, MANIFEST, ARRAYS)
    assert file.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [file]


# --- interruption at every step

STEPS = [
    (os, "replace"),
    (os, "rename"),
    (os, "fsync"),
    (os, "open"),
    (os, "mkdir"),
    (os, "fdopen"),
    (np, "save"),
    (io, "open"),
    (builtins, "open"),
    (tempfile, "mkstemp"),
]
NO_SPACE = OSError(28, "No space left on device")


class Interruptions:
    """Counts what a write asks of the system, and breaks in before or after one such call."""

    def __init__(self, monkeypatch):
        self.calls, self.armed, self.inside = 0, None, False
        for module, name in STEPS:
            monkeypatch.setattr(module, name, self.wrap(getattr(module, name)))

    def wrap(self, function):
        def call(*args, **kwargs):
            if self.armed is None or self.inside:
                return function(*args, **kwargs)
            self.calls += 1
            before, after = self.armed
            self.inside = True
            try:
                before(self.calls - 1)
            finally:
                self.inside = False
            number, result = self.calls - 1, function(*args, **kwargs)
            try:
                after(number)
            except BaseException:
                if isinstance(result, io.IOBase):  # nobody will get to close it
                    result.close()
                raise
            return result

        return call

    def during(self, action, *, before=lambda _: None, after=lambda _: None):
        """Run `action` with these hooks around each call, which they get the number of."""
        self.calls, self.armed = 0, (before, after)
        try:
            action()
        finally:
            self.armed = None


def stop_at(step, problem):
    def hook(call):
        if call == step:
            raise problem

    return hook


@pytest.fixture
def interruptions(monkeypatch):
    return Interruptions(monkeypatch)


def fresh(tmp_path, name, *, old):
    path = tmp_path / name / "x.rain"
    if old:
        store.write(path, MANIFEST, ARRAYS)
    return path


def each_stop(interruptions, tmp_path, problem, *, old, when):
    """An interrupted write of OTHER for every step there is: its path and what it raised."""
    for step in itertools.count():
        path = fresh(tmp_path, str(step), old=old)
        hooks = {when: stop_at(step, problem)}
        try:
            interruptions.during(lambda p=path: store.write(p, MANIFEST, OTHER), **hooks)
        except BaseException as raised:  # noqa: BLE001  an interrupt is what this is about
            yield path, raised
        else:
            # Past the end, or a step whose failure does not matter: mkdir of what exists.
            assert holds(path, OTHER)
            if interruptions.calls <= step:
                break
    assert step > 4 * len(OTHER)  # the hooks really were on the way


@pytest.mark.parametrize("problem", [NO_SPACE, KeyboardInterrupt()], ids=["OSError", "Ctrl-C"])
@pytest.mark.parametrize("old", [True, False], ids=["over an index", "first write"])
def test_a_write_stopped_before_any_step_leaves_the_old_index_and_no_rubbish(
    interruptions, tmp_path, problem, old
):
    for path, raised in each_stop(interruptions, tmp_path, problem, old=old, when="before"):
        if isinstance(problem, OSError):
            assert isinstance(raised, ArtifactError)
            assert str(path) in str(raised)
            assert "No space left" in str(raised)
            assert "\n" not in str(raised)
        else:
            assert raised is problem
        assert_old_or_nothing(path, old)
        assert not leftovers(tmp_path)
        store.write(path, MANIFEST, OTHER)  # and the way is free
        assert holds(path, OTHER)


def assert_old_or_nothing(path, old):
    if old:
        assert holds(path, ARRAYS)
        return
    message = refusal(path)
    assert "interrupted" in message or "no index" in message


@pytest.mark.parametrize("old", [True, False], ids=["over an index", "first write"])
def test_a_write_killed_at_any_moment_leaves_the_old_index_or_the_new_one(
    interruptions, tmp_path, old
):
    # The directory as a kill -9 would leave it, copied before each step of the write.
    path = fresh(tmp_path, "live", old=old)
    moments = []

    def copy(call):
        if path.exists():
            moments.append(shutil.copytree(path, tmp_path / f"killed-{call}"))

    interruptions.during(lambda: store.write(path, MANIFEST, OTHER), before=copy)
    assert len(moments) > 4 * len(OTHER)
    for moment in moments:
        if old:
            assert holds(moment, ARRAYS) or holds(moment, OTHER)
        else:
            assert "interrupted" in refusal(moment)
        store.write(moment, MANIFEST, OTHER)
        assert holds(moment, OTHER)
        assert len(list((moment / "arrays").iterdir())) == len(OTHER)
    assert holds(path, OTHER)


def test_ctrl_c_after_any_step_leaves_the_old_index_or_the_new_one(interruptions, tmp_path):
    problem = KeyboardInterrupt()
    for path, raised in each_stop(interruptions, tmp_path, problem, old=True, when="after"):
        assert raised is problem
        assert holds(path, ARRAYS) or holds(path, OTHER)
        store.write(path, MANIFEST, OTHER)
        assert holds(path, OTHER)
        assert not leftovers(path)


def test_nothing_is_renamed_before_it_has_reached_the_disk(monkeypatch, tmp_path):
    synced, renamed, replace = set(), [], os.replace

    def checked_replace(source, target):
        renamed.append(os.stat(source).st_ino)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    monkeypatch.setattr(os, "replace", checked_replace)
    store.write(tmp_path / "x.rain", MANIFEST, ARRAYS)
    assert len(renamed) == len(ARRAYS) + 1
    assert set(renamed) <= synced


def test_damage_is_not_sealed_in_with_new_checksums(tmp_path):
    """Materialising and appending write the index again; a damaged one is refused first."""
    scene = make_scene(k=4, path=tmp_path / "i")
    model, rows, labels = scene.problem.model, scene.problem.inputs[:3], scene.problem.labels[:3]
    (file,) = (tmp_path / "i" / "arrays").glob("plausibility-*.npy")
    contents = bytearray(file.read_bytes())
    contents[-3] ^= 1
    for open_as in (False, "on use"):
        file.chmod(0o644)
        file.write_bytes(contents)
        index = rainpp.load(tmp_path / "i", verify=open_as)
        database = rainpp.connect(scene.database.connection)
        database.register_model("predict", model, index)
        with pytest.raises(ArtifactError):
            database.materialize("predict", table="people", args=["a", "b", "c", "d"])
        with pytest.raises(ArtifactError):
            index.append(model, rows, labels)
        with pytest.raises(ArtifactError):
            rainpp.load(tmp_path / "i")


@pytest.mark.parametrize("verify", [1, 1.0, np.True_, None, "yes", np.array([1, 2])])
def test_how_to_verify_is_said_in_words_that_are_known(tmp_path, verify):
    with pytest.raises(SettingsError, match="`verify` is"):
        rainpp.load(tmp_path, verify=verify)
