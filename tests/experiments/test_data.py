"""The loaders read every public form of the files, and say what is missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from experiments.cases import sentences
from experiments.data import (
    ADULT_FEATURES,
    COLUMNS,
    adult,
    cifar10,
    data_folder,
    fashion_mnist,
    mnist,
)
from rainpp.errors import DataError
from tests.experiments import files

TRAIN, TEST = files.images(7, seed=0), files.images(3, seed=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("RAINPP_DATA", str(path))
    return path


def assert_holds_the_images(data):
    assert data.train_inputs.dtype == data.test_inputs.dtype == np.float32
    assert data.train_labels.dtype == data.test_labels.dtype == np.int32
    assert_allclose(data.train_inputs * 255, TRAIN[0].reshape(7, 784), rtol=1e-6)
    assert_allclose(data.test_inputs * 255, TEST[0].reshape(3, 784), rtol=1e-6)
    assert data.train_inputs.min() == 0
    assert data.train_inputs.max() == 1
    assert_array_equal(data.train_labels, TRAIN[1])
    assert_array_equal(data.test_labels, TEST[1])


@pytest.mark.parametrize(
    "names",
    [
        ("train_image", "train_label", "test_image", "test_label"),
        ("x_train", "y_train", "x_test", "y_test"),
    ],
)
def test_mnist_from_an_archive(folder, names):
    np.savez(folder / "mnist.npz", **dict(zip(names, (*TRAIN, *TEST), strict=True)))
    assert_holds_the_images(mnist())


@pytest.mark.parametrize("compressed", [False, True])
def test_mnist_from_idx_files(folder, compressed):
    files.write_idx(folder, train=TRAIN, test=TEST, compressed=compressed)
    assert_holds_the_images(mnist())


def test_fashion_mnist_lives_in_its_own_folder(folder):
    files.write_idx(folder / "fashion-mnist", train=TRAIN, test=TEST, compressed=True)
    assert_holds_the_images(fashion_mnist())


@pytest.mark.parametrize("load", [mnist, fashion_mnist, adult, cifar10])
def test_a_missing_file_is_named_with_its_source(folder, load):
    names = r"(train-images-idx3-ubyte|adult\.data|data_batch_1\.bin or cifar10_train\.parquet)"
    with pytest.raises(DataError, match=names + ".*https?://") as why:
        load()
    assert str(folder) in str(why.value)
    assert "RAINPP_DATA" in str(why.value)


def test_an_archive_with_other_arrays_is_refused(folder):
    np.savez(folder / "mnist.npz", pictures=TRAIN[0])
    with pytest.raises(DataError, match="pictures"):
        mnist()


def test_an_archive_with_a_pickle_is_not_opened(folder):
    names = ("train_image", "train_label", "test_image", "test_label")
    np.savez(folder / "mnist.npz", **dict.fromkeys(names, np.array([{}], dtype=object)))
    with pytest.raises(DataError, match=r"mnist\.npz"):
        mnist()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[:1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"\x80\x04N." + content[4:],
        lambda content: content[:300] + b"\xff\xff\xff\xff" + content[304:],
    ],
    ids=range(6),
)
def test_a_damaged_archive_is_refused_and_never_unpickled(folder, damage):
    path = folder / "mnist.npz"
    np.savez_compressed(path, x_train=TRAIN[0], y_train=TRAIN[1], x_test=TEST[0], y_test=TEST[1])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"mnist\.npz is not a complete archive.*https:") as why:
        mnist()
    assert "unsafe" not in str(why.value)


def test_an_array_that_is_named_like_an_archive_is_refused(folder):
    with (folder / "mnist.npz").open("wb") as file:
        np.save(file, TRAIN[0])
    with pytest.raises(DataError, match=r"mnist\.npz is not a complete archive"):
        mnist()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (TRAIN[0] / 255, TRAIN[1], "images of float64"),
        (TRAIN[0].astype(str), TRAIN[1], "images of <U3"),
        (TRAIN[0], TRAIN[1].astype(float), "labels of float64"),
        (TRAIN[0], TRAIN[1] + 70, "0 to 9 are needed"),
        (TRAIN[0][:, :14, :14], TRAIN[1], r"images \(7, 14, 14\)"),
        (TRAIN[0][:0], TRAIN[1][:0], r"images \(0, 28, 28\)"),
    ],
)
def test_images_of_another_kind_are_refused(folder, images, labels, message):
    np.savez(folder / "mnist.npz", x_train=images, y_train=labels, x_test=TEST[0], y_test=TEST[1])
    with pytest.raises(DataError, match=message):
        mnist()


def test_labels_that_do_not_fit_the_images_are_refused(folder):
    files.write_idx(folder, train=(TRAIN[0], TRAIN[1][:5]), test=TEST)
    with pytest.raises(DataError, match=r"\(7, 28, 28\) with labels \(5,\)"):
        mnist()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "incomplete"),
        (lambda content: b"<html>" + content, "not an idx file"),
        (lambda content: content[:6], "not an idx file"),
        (lambda _: b"", "not an idx file"),
    ],
)
def test_a_damaged_idx_file_is_refused(folder, damage, message):
    files.write_idx(folder, train=TRAIN, test=TEST)
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        mnist()


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda _: b"not gzip"])
def test_a_damaged_gzip_file_is_refused(folder, damage):
    files.write_idx(folder, train=TRAIN, test=TEST, compressed=True)
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="gzip"):
        mnist()


PHOTOS, MORE_PHOTOS = files.photos(12, seed=0), files.photos(4, seed=1)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_photos_from_the_binary_files(folder, inside):
    files.write_photo_binaries(folder / inside, train=PHOTOS, test=MORE_PHOTOS)
    data = cifar10()
    assert data.form == "original"
    assert data.train_inputs.dtype == np.float32
    assert data.train_labels.dtype == np.int32
    assert_array_equal(np.round(data.train_inputs * 255), PHOTOS[0])
    assert_array_equal(np.round(data.test_inputs * 255), MORE_PHOTOS[0])
    assert_array_equal(data.train_labels, PHOTOS[1])
    assert_array_equal(data.test_labels, MORE_PHOTOS[1])


def test_photos_from_tables_of_jpegs(folder):
    files.write_photo_tables(folder, train=PHOTOS, test=MORE_PHOTOS)
    data = cifar10()
    assert data.form == "re-encoded as JPEG"
    assert_allclose(data.train_inputs * 255, PHOTOS[0], atol=6)
    assert_allclose(data.test_inputs * 255, MORE_PHOTOS[0], atol=6)
    assert_array_equal(data.train_labels, PHOTOS[1])


@pytest.mark.parametrize("write", [files.write_photo_binaries, files.write_photo_tables])
def test_only_the_first_photos(folder, write):
    write(folder, train=PHOTOS, test=MORE_PHOTOS)
    data = cifar10(train_rows=5, test_rows=2)
    assert_array_equal(data.train_labels, PHOTOS[1][:5])
    assert_array_equal(data.test_labels, MORE_PHOTOS[1][:2])
    assert_allclose(data.train_inputs * 255, PHOTOS[0][:5], atol=6)


def test_the_original_photos_are_preferred(folder):
    files.write_photo_tables(folder, train=PHOTOS, test=MORE_PHOTOS)
    files.write_photo_binaries(folder, train=PHOTOS, test=PHOTOS)
    assert cifar10().form == "original"
    assert len(cifar10().test_labels) == len(PHOTOS[1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "rows of 3073 are needed"),
        (lambda _: b"", "rows of 3073 are needed"),
        (lambda content: b"\x0a" + content[1:], "0 to 9 are needed"),
    ],
)
def test_damaged_binary_photos_are_refused(folder, damage, message):
    files.write_photo_binaries(folder, train=PHOTOS, test=MORE_PHOTOS)
    path = folder / "test_batch.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        cifar10()


def test_a_missing_binary_file_is_named(folder):
    files.write_photo_binaries(folder, train=PHOTOS, test=MORE_PHOTOS)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin.*cifar-10-binary"):
        cifar10()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"not an image", "row 1 is not an image"),
        (None, "row 1 is not an image"),
        (files.jpeg(PHOTOS[0][0][:16]), r"row 1 is an image of \(16, 32, 3\)"),
    ],
)
def test_a_table_with_a_broken_image_is_refused(folder, image, message):
    files.write_photo_tables(folder, train=PHOTOS, test=MORE_PHOTOS)
    table = pa.table({"label": [0, 1], "image": [files.jpeg(PHOTOS[0][0]), image]})
    pq.write_table(table, folder / "cifar10_test.parquet")
    with pytest.raises(DataError, match=message):
        cifar10()


@pytest.mark.parametrize("content", [b"no table", None])
def test_a_table_of_something_else_is_refused(folder, content):
    files.write_photo_tables(folder, train=PHOTOS, test=MORE_PHOTOS)
    path = folder / "cifar10_train.parquet"
    pq.write_table(pa.table({"picture": [1]}), path)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="columns label and image"):
        cifar10()


@pytest.mark.parametrize("labels", [["a", "b"], [0.5, 1.0], [0, None], []])
def test_a_table_of_other_labels_is_refused(folder, labels):
    files.write_photo_tables(folder, train=PHOTOS, test=MORE_PHOTOS)
    images = [files.jpeg(PHOTOS[0][0])] * len(labels)
    typed = pa.array(images, pa.binary())
    pq.write_table(pa.table({"label": labels, "image": typed}), folder / "cifar10_train.parquet")
    with pytest.raises(DataError, match=r"holds the labels .*0 to 9 are needed"):
        cifar10()


def test_the_folder_defaults_to_the_one_beside_the_repository(monkeypatch):
    monkeypatch.delenv("RAINPP_DATA", raising=False)
    assert data_folder().parts[-2:] == ("shared", "data")
    monkeypatch.setenv("RAINPP_DATA", "/elsewhere")
    assert str(data_folder()) == "/elsewhere"


@pytest.mark.parametrize("header", [True, False])
def test_adult_with_and_without_a_header(folder, header):
    train, test = files.people(40, seed=0), files.people(10, seed=1)
    files.write_adult(folder, train=train, test=test, header=header)
    data = adult()
    assert list(data.train_frame.columns) == list(COLUMNS)
    assert data.train_inputs.shape == (40, 49)
    assert data.test_inputs.shape == (10, 49)
    assert data.train_inputs.dtype == np.float32
    assert_array_equal(data.train_labels, [p["income"] == ">50K" for p in train])
    assert_array_equal(data.test_labels, [p["income"] == ">50K" for p in test])
    assert data.test_frame["income"].tolist() == [p["income"] for p in test]
    assert data.train_frame["workclass"].tolist() == [p["workclass"] for p in train]


def test_adult_features_mean_what_they_are_called(folder):
    train, test = files.people(40, seed=0), files.people(10, seed=1)
    files.write_adult(folder, train=train, test=test, header=True)
    data = adult()

    def column(name, inputs=data.train_inputs):
        return inputs[:, ADULT_FEATURES.index(name)]

    assert len(ADULT_FEATURES) == 49
    assert_array_equal(column("sex=Male"), [p["sex"] == "Male" for p in train])
    assert_array_equal(column("workclass=?"), [p["workclass"] == "?" for p in train])
    ages = np.array([p["age"] for p in train])
    assert_allclose(column("age"), (ages - ages.mean()) / ages.std(), rtol=1e-5, atol=1e-6)
    older = np.array([p["age"] for p in test])
    expected = (older - ages.mean()) / ages.std()  # by the training rows, not its own
    assert_allclose(column("age", data.test_inputs), expected, rtol=1e-5, atol=1e-6)
    gains = np.log1p([p["gain"] for p in train])
    expected = (gains - gains.mean()) / gains.std()
    assert_allclose(column("capital_gain"), expected, rtol=1e-5, atol=1e-6)
    # One value of each of the six categories holds; a constant number stays finite.
    assert_array_equal(data.train_inputs[:, 5:].sum(axis=1), np.full(40, 6))
    assert_array_equal(column("hours_per_week"), np.zeros(40))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"sex": "M"}, "sex 'M'"), ({"income": "50K"}, "income '50K'"), ({"age": "old"}, "old")],
)
def test_adult_with_an_unknown_value_is_refused(folder, wrong, message):
    train = files.people(5, seed=0)
    train[3] |= wrong
    files.write_adult(folder, train=train, test=train[:2], header=True)
    with pytest.raises(DataError, match=message):
        adult()


@pytest.mark.slow
def test_the_real_files_have_the_published_sizes():
    try:
        digits, census, things = mnist(), adult(), cifar10()
    except DataError as absent:
        pytest.skip(str(absent))
    assert digits.train_inputs.shape == (60000, 784)
    assert digits.test_inputs.shape == (10000, 784)
    assert np.bincount(digits.train_labels)[[1, 7]].tolist() == [6742, 6265]
    assert census.train_inputs.shape == (32561, 49)
    assert census.test_inputs.shape == (16281, 49)
    assert census.train_labels.sum() == 7841
    assert (census.train_frame["workclass"] == "Private").sum() == 22696
    assert things.train_inputs.shape == (50000, 32, 32, 3)
    assert np.bincount(things.train_labels).tolist() == [5000] * 10
    assert np.bincount(things.test_labels).tolist() == [1000] * 10


ROW = (
    "39, Private, 1, Bachelors, 13, Never-married, Sales, Husband, White, Male, {}, 0, 40, Cuba, {}"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no person"),
        (b"<html>Not found</html>\n", "holds no person"),
        (ROW.format("9" * 30, "<=50K").encode(), "Overflow"),
        (ROW.format(-5, "<=50K").encode(), "row 0 has a number below zero"),
        (b"39, Priv\xe4te\n", "utf-8"),
        (bytes(range(256)), "utf-8"),
    ],
    ids=range(6),
)
def test_a_file_that_is_not_adult_is_refused_with_where_to_get_it(folder, content, message):
    people = files.people(10, seed=0)
    files.write_adult(folder, train=people, test=people, header=False)
    (folder / "adult.data").write_bytes(content)
    with pytest.raises(DataError, match=rf"adult\.data is not.*{message}.*https:"):
        adult()


# --- SST-2 --------------------------------------------------------------------------------------


def write_sentences(folder, content):
    (folder / "sst2_train.tsv").write_bytes(content)
    (folder / "sst2_dev.tsv").write_bytes(b"label\tcontent\n1\ta film\n")


def test_words_that_stand_for_nothing_elsewhere_are_sentences(folder):
    write_sentences(folder, b'label\tsentence\n0\tnull\n1\tNA\n1\ta "quoted\n')
    training, tested = sentences()
    assert training["label"].tolist() == [0, 1, 1]
    assert training["sentence"].tolist() == ["null", "NA", 'a "quoted']
    assert tested["sentence"].tolist() == ["a film"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a table of a label and a text"),
        (b"label\tsentence\n", "0 rows"),
        (b"sentence\na film\n", r"columns \['sentence'\]"),
        (b"label\tsentence\n1\ta\n1\tb\tc\n", "line 3"),
        (b"label\tsentence\n1\ta\n7\tb\n", "line 3 has the label '7'"),
        (b"label\tsentence\n1\ta\nonly text\n", "line 3 has the label 'only text'"),
        (b"label\tsentence\n1\t\xff\xfe\n", "utf-8"),
    ],
    ids=range(7),
)
def test_damaged_sentences_are_refused(folder, content, message):
    write_sentences(folder, content)
    with pytest.raises(DataError, match=rf"sst2_train\.tsv .*{message}"):
        sentences()
