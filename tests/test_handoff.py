"""A complaint as a file: the users of a model write it, its owners rank it."""

import json
import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import rainpp
from rainpp.errors import ArtifactError, DataError, SettingsError
from rainpp.handoff import LARGEST_FILE, _signature
from tests.online import BY_REGION, make_scene

SECRET = "between us"


@pytest.fixture(scope="module")
def scene():
    return make_scene(k=6)


@pytest.fixture(scope="module")
def complaint(scene):
    return scene.database.sql(BY_REGION).complain("n", where={"region": "EU"}, should="increase")


@pytest.fixture
def file(complaint, tmp_path):
    return complaint.save(tmp_path / "eu.json")


def change(file, **fields):
    body = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: v for name, v in body.items() if v is not ...}))
    return file


def test_the_owner_ranks_as_the_user_would_without_database_or_eigenvectors(scene, complaint, file):
    stripped = {"eigenvalues", "projections", "plausibility", "labels", "train_ids"}
    arrays = {name: scene.index.arrays[name] for name in stripped}
    owners = rainpp.Index(scene.index.manifest, arrays)
    ranking = rainpp.read_complaint(file).rank(owners)
    expected = complaint.rank()
    assert_array_equal(ranking.effects, expected.effects)
    assert list(ranking.top(5)["detail"]) == list(expected.top(5)["detail"])


def test_numbers_come_back_to_the_last_bit_with_the_words(complaint, file):
    read = rainpp.read_complaint(file)
    assert_array_equal(read.vector, np.asarray(complaint.vector(), np.float64))
    assert read.words == str(complaint.complaint)
    assert "region='EU'" in repr(read)
    assert "not signed" in repr(read)


def test_words_can_be_left_out(complaint, tmp_path):
    path = complaint.save(tmp_path / "silent.json", words=False)
    assert "EU" not in path.read_text()
    assert rainpp.read_complaint(path).words == ""


def test_nothing_but_the_vector_grows_with_k(file, scene):
    body = json.loads(file.read_text())
    assert len(body.pop("vector")) == scene.index.k
    assert all(not isinstance(value, list) or name == "classes" for name, value in body.items())


# The users' half


def test_users_complain_with_a_half_that_holds_no_training_row(scene, complaint, tmp_path):
    half = rainpp.load(rainpp.users_half(scene.index, tmp_path / "half.rain").path)
    assert not {"projections", "plausibility", "losses", "labels", "train_ids"} & set(half.arrays)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", scene.problem.model, half)
    for prepared in (False, True):
        if prepared:
            database.materialize("predict", table="people", args=["a", "b", "c", "d"])
        found = database.sql(BY_REGION).complain("n", where={"region": "EU"}, should="increase")
        read = rainpp.read_complaint(found.save(tmp_path / "eu.json", secret=SECRET), secret=SECRET)
        assert_allclose(read.rank(scene.index).effects, complaint.rank().effects, rtol=1e-9)


def test_materialised_projections_are_enough_for_the_vector(scene, complaint, tmp_path):
    half = rainpp.users_half(scene.index, tmp_path / "half.rain")
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", scene.problem.model, half)
    database.materialize("predict", table="people", args=["a", "b", "c", "d"])
    known = rainpp.load(half.path)
    del known.arrays["eigenvectors"]
    database.register_model("predict", scene.problem.model, known)
    database.materialize("predict", table="people", args=["a", "b", "c", "d"])
    found = database.sql(BY_REGION).complain("n", where={"region": "EU"}, should="increase")
    assert_allclose(found.vector(), complaint.vector(), rtol=1e-6)


def test_the_users_half_cannot_rank_and_says_who_can(scene, file):
    half = rainpp.users_half(scene.index)
    database = rainpp.connect(scene.database.connection)
    database.register_model("predict", scene.problem.model, half)
    found = database.sql(BY_REGION).complain("n", where={"region": "EU"}, should="increase")
    with pytest.raises(ArtifactError, match=r"no training row is in it.*complaint\.save"):
        found.rank()
    with pytest.raises(ArtifactError, match="no training row is in it"):
        rainpp.read_complaint(file).rank(half)
    for ask in (half.rank, half.best):
        with pytest.raises(ArtifactError, match="no training row is in it"):
            ask(np.zeros(half.k))


# Vectors of others


def test_another_model_is_refused(file):
    other = make_scene(k=6, seed=3)
    with pytest.raises(ArtifactError, match="about another model"):
        rainpp.read_complaint(file).rank(other.index)


def test_another_index_of_the_same_model_is_refused(file, scene):
    problem = scene.problem
    half = slice(0, 60)
    other = rainpp.precompute(
        problem.model, problem.inputs[half], problem.labels[half], k=scene.index.k
    )
    with pytest.raises(ArtifactError, match="another index of this model"):
        rainpp.read_complaint(file).rank(other)


def test_appended_rows_do_not_make_a_complaint_stale(file, scene):
    problem = scene.problem
    grown = scene.index.append(problem.model, problem.inputs[:3], problem.labels[:3])
    assert len(rainpp.read_complaint(file).rank(grown)) > len(scene.index.interventions)


# Signatures


def test_a_signed_file_needs_its_secret(complaint, tmp_path):
    path = complaint.save(tmp_path / "signed.json", secret=SECRET)
    assert rainpp.read_complaint(path, secret=SECRET.encode()).signed
    with pytest.raises(ArtifactError, match="is signed; give the secret="):
        rainpp.read_complaint(path)
    with pytest.raises(ArtifactError, match="signed with another secret"):
        rainpp.read_complaint(path, secret="guess")


def test_a_file_nobody_vouches_for_is_refused_where_a_secret_is_expected(file):
    with pytest.raises(ArtifactError, match="not signed, so nobody vouches"):
        rainpp.read_complaint(file, secret=SECRET)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_changed_number_is_noticed(complaint, tmp_path, secret):
    path = complaint.save(tmp_path / "changed.json", secret=secret)
    vector = json.loads(path.read_text())["vector"]
    change(path, vector=[vector[0] + 1e-9, *vector[1:]])
    with pytest.raises(ArtifactError, match="does not fit its contents: it was changed"):
        rainpp.read_complaint(path, secret=secret)


def test_a_checksum_passed_off_as_a_signature_is_refused(file):
    change(file, algorithm="hmac-sha256")
    with pytest.raises(ArtifactError, match="does not fit"):
        rainpp.read_complaint(file, secret=SECRET)


@pytest.mark.parametrize("secret", ["", b"", 7, ["key"]])
def test_a_secret_is_text_that_is_not_empty(complaint, file, tmp_path, secret):
    with pytest.raises(SettingsError, match="`secret` is"):
        complaint.save(tmp_path / "x.json", secret=secret)
    with pytest.raises(SettingsError, match="`secret` is"):
        rainpp.read_complaint(file, secret=secret)


# Malformed files


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "pickle"),
        ("schema", 2),
        ("schema", True),
        ("vector", []),
        ("vector", {"0": 1.0}),
        ("vector", [1.0, "2"]),
        ("vector", [True]),
        ("vector", [10**400]),
        ("words", 3),
        ("classes", "012"),
        ("classes", [[1]]),
        ("basis", "abc"),
        ("model", "g" * 64),
        ("algorithm", "none"),
        ("algorithm", ["sha256"]),
        ("signature", None),
        *((name, ...) for name in ("kind", "vector", "classes", "signature")),
    ],
)
def test_every_malformed_field_is_named(file, name, value):
    with pytest.raises(ArtifactError, match=f"`{name}`") as caught:
        rainpp.read_complaint(change(file, **{name: value}))
    assert len(str(caught.value)) < 300


def test_a_field_no_complaint_has_is_refused(file):
    with pytest.raises(ArtifactError, match="'rows'"):
        rainpp.read_complaint(change(file, rows=[[1, 2]]))


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"[1, 2]",
        b"\x80\x04\x95pickle",
        b'{"vector": [NaN]}',
        b'{"vector": [1e999]}',
        b"[" * 200_000,
        b'{"schema": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "list", "pickle", "nan", "infinite", "deep", "long"],
)
def test_what_is_no_complaint_is_refused(file, contents):
    file.write_bytes(contents)
    with pytest.raises(ArtifactError, match=r"eu\.json"):
        rainpp.read_complaint(file)


def test_a_field_that_is_there_twice_is_refused_whichever_would_count(file):
    file.write_text(file.read_text().replace("{", '{"words": "something else",', 1))
    with pytest.raises(ArtifactError, match="a field is there twice"):
        rainpp.read_complaint(file)


def test_what_json_has_no_word_for_is_refused_while_parsing(file):
    file.write_text(file.read_text().replace("[", "[NaN,", 1))
    with pytest.raises(ArtifactError, match="NaN is no number"):
        rainpp.read_complaint(file)


def test_a_huge_file_is_not_read(file):
    file.write_bytes(b" " * (LARGEST_FILE + 1))
    with pytest.raises(ArtifactError, match="larger than"):
        rainpp.read_complaint(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ArtifactError, match="cannot read the complaint"):
        rainpp.read_complaint(tmp_path / "missing.json")
    with pytest.raises(ArtifactError, match="cannot read the complaint"):
        rainpp.read_complaint(tmp_path)


def test_a_disk_that_refuses_is_one_clear_error(complaint, tmp_path):
    with pytest.raises(ArtifactError, match="cannot write the complaint"):
        complaint.save(tmp_path / "no folder" / "eu.json")
    assert os.listdir(tmp_path) == []


def test_classes_must_be_those_of_the_index(complaint, tmp_path, scene):
    read = rainpp.read_complaint(complaint.save(tmp_path / "eu.json"))
    short = rainpp.SavedComplaint(
        read.vector, "", (0, 1), read.coverage, read.basis, read.model, False
    )
    with pytest.raises(ArtifactError, match="`classes` of the complaint names 2"):
        short.rank(scene.index)


# Attacks that once went through


def test_a_half_never_takes_the_place_of_a_whole_index(scene, tmp_path):
    whole = rainpp.precompute(
        scene.problem.model, scene.problem.inputs, scene.problem.labels, k=4, path=tmp_path / "i"
    )
    with pytest.raises(ArtifactError, match="holds a whole index"):
        rainpp.users_half(whole, tmp_path / "i")
    assert len(rainpp.load(tmp_path / "i").rank(np.ones(4))) == len(whole.interventions)


@pytest.mark.parametrize("path", [None, 3, b"x.json", "", "/", "a\0b", "\ud800.json"])
def test_paths_that_are_none(complaint, path):
    for use in (complaint.save, rainpp.read_complaint):
        with pytest.raises(ArtifactError):
            use(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "f")
    with pytest.raises(ArtifactError, match="no regular file"):
        rainpp.read_complaint(tmp_path / "f")


@pytest.mark.parametrize("index", [None, "x", 3])
def test_what_is_no_index_is_named(file, index):
    for use in (rainpp.read_complaint(file).rank, rainpp.users_half):
        with pytest.raises(ArtifactError, match="`index` is a"):
            use(index)


def test_words_of_a_stranger_move_no_cursor(complaint, tmp_path):
    saved = complaint.save(tmp_path / "c.json")
    body = json.loads(saved.read_text())
    body["words"] = "\x1b[31mRED\nsigned)"
    body["signature"] = _signature(body, None)
    saved.write_text(json.dumps(body))
    assert "\x1b" not in repr(rainpp.read_complaint(saved))
    assert "\n" not in repr(rainpp.read_complaint(saved))


@pytest.mark.parametrize(
    "vector",
    [["1"] * 5, [True] * 5, [1j] * 5, np.ma.array(np.ones(5), mask=[1] * 5), [10**400] * 5],
)
def test_vectors_of_no_numbers_are_refused(scene, vector):
    with pytest.raises(DataError, match="must hold"):
        scene.index.rank(vector)


def test_a_vector_whose_scores_would_overflow_is_refused(scene):
    with pytest.raises(DataError, match="scores would be infinite"):
        scene.index.rank(np.full(scene.index.k, 1e35))
