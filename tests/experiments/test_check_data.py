"""The published data sets are known by their content, whatever file they came in."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from experiments import check_data, data
from tests.experiments import files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAINPP_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_what_is_missing_is_said_with_where_to_get_it():
    lines = list(check_data.rows())
    assert [line[0] for line in lines] == ["MNIST", "Fashion-MNIST", "CIFAR-10", "SST-2", "ADULT"]
    assert all(line[1] == "" and line[2].startswith("cannot be used: no ") for line in lines)


def test_damaged_files_are_told_and_the_others_looked_at(folder):
    names = ("mnist.npz", "cifar10_train.parquet", "cifar10_test.parquet", "sst2_train.tsv",
             "adult.data", "adult.test")  # fmt: skip
    for name in names:
        (folder / name).write_bytes(b"\xff\xfe, damaged\n\n" * 20)
    lines = {name: state for name, _, state in check_data.rows()}
    assert len(lines) == 5
    for name, file in (("MNIST", names[0]), ("CIFAR-10", names[1]), ("SST-2", names[3]),
                       ("ADULT", names[4])):  # fmt: skip
        assert lines[name].startswith(f"cannot be used: {folder / file} is not ")
        assert "\n" not in lines[name]


def test_images_are_known_by_the_bytes_of_their_idx_files(folder, monkeypatch):
    train, test = files.images(7, seed=0), files.images(3, seed=1)
    files.write_idx(folder, train=train, test=test, compressed=True)
    sums = tuple(hashlib.md5(files.idx_bytes(part)).hexdigest() for part in (*train, *test))
    monkeypatch.setitem(check_data.PUBLISHED, "MNIST", sums)
    assert check_data.images("MNIST", data.mnist()) == ("7 + 3", "as published")
    train[0][0, 0, 0] ^= 1
    files.write_idx(folder, train=train, test=test, compressed=True)
    counted, state = check_data.images("MNIST", data.mnist())
    assert state.startswith("not as published: ['")
    assert counted == "7 + 3"


@pytest.mark.skipif(
    not (data.data_folder() / "mnist.npz").exists(), reason="no mnist.npz in the data folder"
)
def test_the_digits_at_hand_are_the_published_ones():
    assert check_data.images("MNIST", data.mnist()) == ("60,000 + 10,000", "as published")
    other = data.mnist()
    spoilt = data.Dataset(
        np.zeros_like(other.train_inputs), other.train_labels, other.test_inputs, other.test_labels
    )
    assert check_data.images("MNIST", spoilt)[1].startswith("not as published")
