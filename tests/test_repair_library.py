"""The repairs that come with the library, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rainpp.errors import SettingsError, ShapeError
from rainpp.intervention import images, tables, text
from rainpp.intervention.repair import repaired


def pictures(seed=0, count=3, shape=(8, 8)):
    return np.random.default_rng(seed).random((count, *shape))


def test_the_median_of_each_window():
    given = pictures()
    found = repaired(images.median_filter(), given)
    window = given[1, 2:5, 3:6]
    assert found[1, 3, 4] == np.median(window)


def test_salt_and_pepper_goes_away():
    clean = np.tile(np.linspace(0, 1, 12), (2, 12, 1))
    noisy = clean.copy()
    noisy[:, 3, 4], noisy[:, 7, 2] = 1.0, 0.0
    assert_allclose(repaired(images.median_filter(), noisy)[:, 2:-2, 2:-2], clean[:, 2:-2, 2:-2])


def test_images_do_not_flow_into_each_other():
    given = np.zeros((2, 6, 6))
    given[1] = 1.0
    for item in (images.median_filter(), images.gaussian_filter(), images.unsharp_mask()):
        assert_allclose(repaired(item, given), given, atol=1e-12)


def test_flat_rows_and_whole_pixels_keep_shape_and_type():
    given = (pictures(shape=(4, 4)).reshape(3, 16) * 255).astype(np.uint8)
    found = repaired(images.gaussian_filter(shape=(4, 4)), given)
    assert (found.shape, found.dtype) == (given.shape, given.dtype)
    with pytest.raises(ShapeError, match="are no images"):
        images.median_filter().repair(given)
    with pytest.raises(ShapeError, match="does not have 16 pixels"):
        images.median_filter(shape=(5, 5)).repair(given)


def test_sharpening_undoes_some_of_a_blur():
    from scipy import ndimage

    clean = np.zeros((1, 20, 20))
    clean[0, 6:14, 6:14] = 1
    blurred = ndimage.gaussian_filter(clean, (0, 1.5, 1.5))
    found = repaired(images.unsharp_mask(sigma=1.5, amount=1.5), blurred)
    assert np.abs(found - clean).sum() < 0.8 * np.abs(blurred - clean).sum()
    assert found.min() >= blurred.min()
    assert found.max() <= blurred.max()


def test_brightness_becomes_that_of_the_others():
    usual = pictures(1)
    dark = usual * 0.2
    found = repaired(images.normalise_brightness(usual), dark)
    assert_allclose(found.mean(axis=(1, 2)), usual.mean(), rtol=0.05)


@pytest.mark.parametrize("size", [0, 1, 2.5, True, "x"])
def test_sizes_are_checked(size):
    with pytest.raises(SettingsError, match="`size` is"):
        images.median_filter(size=size)
    with pytest.raises(SettingsError, match="`sigma` is"):
        images.gaussian_filter(sigma=-1)


def people():
    return np.array([[20.0, 1], [30, 0], [40, 1], [np.nan, 1], [999, 1]])


def test_missing_and_implausible_values_become_usual():
    item = tables.impute(people(), [0], missing=lambda age: ~(age < 120), value="median")
    assert_allclose(repaired(item, people()[:3])[:, 0], [20, 30, 40])
    assert_allclose(item.repair(people())[:, 0], [20, 30, 40, 30, 30])
    zero = tables.impute(people()[:3], [1], missing=0.0, value="mode")
    assert_allclose(zero.repair(people()[:3])[:, 1], 1)


def test_what_if_a_column_said_nothing():
    item = tables.set_to_usual(people()[:3], [0], value="mean")
    assert_allclose(item.repair(people()[:3])[:, 0], 30)


def test_units_are_scaled_where_they_are_implausible():
    grams = np.array([[70.0], [82_000.0], [65.0]])
    item = tables.rescale([0], 1e-3, outside=(30, 300))
    assert_allclose(item.repair(grams)[:, 0], [70, 82, 65])
    assert_allclose(tables.rescale([0], 2.0).repair(grams), grams * 2)


def test_repeated_rows_are_found_with_their_labels():
    rows = np.array([[1, 2], [3, 4], [1, 2], [1, 2]])
    assert_array_equal(tables.duplicates(rows), [False, False, True, True])
    assert_array_equal(tables.duplicates(rows, [0, 0, 1, 0]), [False, False, False, True])


@pytest.mark.parametrize("columns", [[], [2], [-1], ["age"], [True]])
def test_columns_are_checked(columns):
    with pytest.raises(SettingsError, match="`columns`"):
        tables.impute(people(), columns)


def test_tokens_are_swapped_at_once():
    given = np.array([[1, 2, 3], [2, 2, 0]])
    item = text.substitute({1: 2, 2: 1})
    assert_array_equal(repaired(item, given), [[2, 1, 3], [1, 1, 0]])
    counts = text.substitute({0: 1, 1: 0}, counts=True)
    assert_array_equal(repaired(counts, np.array([[3, 1, 0]])), [[1, 3, 0]])


def test_words_become_the_most_similar_known_one():
    words = ["terrible", "terible", "film", "zzz"]
    item = text.respell(words, ["terrible", "film"])
    assert_array_equal(repaired(item, np.array([[1, 2, 3]])), [[0, 2, 3]])
    with pytest.raises(SettingsError, match="lower it"):
        text.respell(["zzz"], ["film"])


def test_text_repairs_check_their_inputs():
    with pytest.raises(ShapeError, match="no token numbers"):
        text.substitute({1: 2}).repair(np.ones((2, 2)))
    with pytest.raises(ShapeError, match="no column"):
        text.substitute({1: 9}, counts=True).repair(np.ones((2, 2)))
    with pytest.raises(SettingsError, match="tokens are whole numbers"):
        text.substitute({-1: 2})
