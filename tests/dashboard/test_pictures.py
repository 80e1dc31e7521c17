"""Training rows drawn: which arrays are pictures, and which pixels they become."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from rainpp.dashboard.pictures import Gallery
from rainpp.training_set import TrainingSet


def gallery(inputs, shape=None):
    count = len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)
    labels = np.zeros(count, int)
    rows = TrainingSet(inputs, labels, np.arange(count), np.ones(count))
    return Gallery.of(rows, shape)


def pixels(shown):
    found = np.frombuffer(base64.b64decode(shown["picture"]), np.uint8)
    return found.reshape(shown["height"], shown["width"], shown["channels"])


def scenes(*shape, dtype=np.float32):
    """Rows with values from 0 to 1."""
    found = np.random.default_rng(0).random((5, *shape)).astype(dtype)
    found.reshape(5, -1)[:, 0] = 0
    found.reshape(5, -1)[:, -1] = 1
    return found


@pytest.mark.parametrize(
    ("row", "sides"),
    [
        ((784,), (28, 28, 1)),
        ((64,), (8, 8, 1)),
        ((3072,), (32, 32, 3)),
        ((28, 20), (28, 20, 1)),
        ((16, 12, 3), (16, 12, 3)),
        ((16, 12, 1), (16, 12, 1)),
        ((16, 12, 4), (16, 12, 4)),
    ],
)
def test_an_array_that_looks_like_a_picture_is_drawn_as_it_is(row, sides):
    inputs = scenes(*row)
    shown = pixels(gallery(inputs).show(3))
    assert shown.shape == sides
    assert np.array_equal(shown, (inputs[3].reshape(sides) * 255).round())


def test_channels_may_stand_first():
    inputs = scenes(3, 16, 12)
    shown = pixels(gallery(inputs).show(2))
    assert np.array_equal(shown, (np.moveaxis(inputs[2], 0, -1) * 255).round())


def test_bytes_are_drawn_as_they_are():
    inputs = np.random.default_rng(0).integers(0, 256, (5, 8, 8)).astype(np.uint8)
    inputs[0, 0, :2] = 0, 255
    assert np.array_equal(pixels(gallery(inputs).show(1))[..., 0], inputs[1])


def test_values_of_another_range_are_stretched():
    inputs = scenes(8, 8) * 6 - 2
    shown = pixels(gallery(inputs).show(0))
    assert (shown.min(), shown.max()) == (0, 255)


@pytest.mark.parametrize("row", [(4,), (63,), (5,), (2, 2), (600, 600), (8, 8, 8), (16, 16, 2)])
def test_other_rows_are_shown_as_numbers(row):
    inputs = scenes(*row)
    shown = gallery(inputs).show(1)
    assert "picture" not in shown
    assert np.allclose(shown["numbers"], inputs[1].reshape(-1)[:12], rtol=1e-3)
    assert shown["more"] == inputs[1].size


def test_measurements_of_a_square_number_are_no_picture():
    inputs = np.random.default_rng(0).normal(size=(50, 64))
    assert "numbers" in gallery(inputs).show(0)


def test_a_shape_that_cannot_be_seen_can_be_said():
    inputs = np.random.default_rng(0).normal(size=(50, 48))
    assert pixels(gallery(inputs, (4, 12)).show(0)).shape == (4, 12, 1)
    assert "numbers" in gallery(inputs, (5, 12)).show(0)


def test_nan_is_black():
    inputs = scenes(8, 8)
    inputs[1, 3, 3] = np.nan
    assert pixels(gallery(inputs).show(1))[3, 3, 0] == 0


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"a": np.zeros((3, 4)), "b": np.zeros((3, 4))}, "several"),
        (np.array(["a", "b"]), "numbers"),
    ],
)
def test_what_cannot_be_shown_says_why(inputs, words):
    found = gallery(inputs)
    assert words in found.note
    assert found.show(0) == {}
