"""Matrix products in bfloat16: which factors are rounded, wherever they stand, and which not."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

from rainpp.errors import SettingsError
from rainpp.lanczos.curvature import Curvature
from rainpp.matmul import check_matmul, in_bfloat16
from rainpp.model import Model
from rainpp.training_set import TrainingSet

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape) / 2, jnp.float32)


def rounded(array):
    """The nearest numbers of eight significant bits, as float64."""
    mantissa, exponent = np.frexp(np.asarray(array, np.float64))
    return np.ldexp(np.round(mantissa * 256) / 256, exponent)


def convolve(kernel, rows):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(rows, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def along(loss):
    """The curvature of `loss(w, x)` along a vector."""
    return lambda w, x, v: jax.jvp(jax.grad(loss), (w, x), (v, jnp.zeros_like(x)))[1]


def recurrent(w, x):
    def step(state, row):
        return jnp.tanh(state @ w + row), None

    return jnp.sum(lax.scan(step, jnp.zeros((4, 6), jnp.float32), x)[0] ** 2)


def remat(w, x):
    return jnp.sum(jax.checkpoint(lambda w, x: jnp.tanh(jnp.tanh(x @ w) @ w))(w, x) ** 2)


W, X, V = normal(6, 6), normal(4, 6), normal(6, 6)
K, IMAGES = normal(3, 3, 2, 5), normal(2, 5, 5, 2)
# A function and its arguments.
FUNCTIONS = {
    "a product": (lambda w, x: x @ w, (W, X)),
    "a convolution": (convolve, (K, IMAGES)),
    "curvature": (along(lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 2)), (W, X, V)),
    "curvature of convolutions": (
        along(lambda k, x: jnp.sum(jnp.tanh(convolve(k, x)) ** 2)),
        (K, IMAGES, normal(*K.shape)),
    ),
    "a rule for its derivative": (
        along(lambda w, x: jnp.sum(jax.nn.gelu(x @ w) ** 2)),
        (W, X, V),
    ),
    "a compiled part": (jax.jit(lambda w, x: x @ w), (W, X)),
    "a recurrent network": (along(recurrent), (W, normal(5, 4, 6), V)),
    "rematerialised": (along(remat), (W, X, V)),
    "a branch": (lambda w, x: lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: -x @ w), (W, X)),
    "a loop": (lambda w, x: lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ w), x), (W, X)),
}


def factors(function, arguments, platform="cpu"):
    """Types of the factors and of the result of every product that XLA is given."""
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    lines = [line for line in text.splitlines() if re.search(r"dot_general|\.convolution\(", line)]
    return [tuple(re.findall(r"x([a-z]+\d+)>", line.split(" : ")[-1])) for line in lines]


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_product_is_given_bfloat16_and_adds_up_in_float32(name, platform):
    function, arguments = FUNCTIONS[name]
    usual = factors(function, arguments, platform)
    assert set(usual) == {("f32", "f32", "f32")}
    found = factors(in_bfloat16(function), arguments, platform)
    assert found == [("bf16", "bf16", "f32")] * len(usual)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_differ_by_what_eight_bits_leave(name):
    function, arguments = FUNCTIONS[name]
    exact, found = jax.jit(function)(*arguments), jax.jit(in_bfloat16(function))(*arguments)
    exact, found = np.asarray(jax.tree.leaves(exact)[0]), np.asarray(jax.tree.leaves(found)[0])
    assert found.dtype == np.float32
    assert 1e-4 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 3e-2


def test_a_product_is_that_of_the_rounded_factors():
    left, right = normal(40, 300), normal(300, 20)
    found = jax.jit(in_bfloat16(jnp.matmul))(left, right)
    # Rounded after 24 bits by float32's sums of 300 products.
    assert_allclose(found, rounded(left) @ rounded(right), rtol=1e-5, atol=1e-5)
    for precision in ("highest", "F32_F32_F32"):  # what the model itself asks for
        asked = jax.jit(in_bfloat16(partial(jnp.matmul, precision=precision)))
        assert_array_equal(asked(left, right), found)


def test_other_types_stay_as_they_are():
    wide = [array.astype(jnp.float64) for array in (X, W)]
    assert_array_equal(in_bfloat16(jnp.matmul)(*wide), jnp.matmul(*wide))
    whole = jnp.arange(6).reshape(2, 3), jnp.arange(6).reshape(3, 2)
    assert_array_equal(in_bfloat16(jnp.matmul)(*whole), jnp.matmul(*whole))


def test_a_model_keeps_its_own_products_unless_it_is_told():
    model = Model(lambda params, x: x @ params, W)
    assert model.with_matmul("float32") is model
    other = model.with_matmul("bfloat16")
    assert other.fingerprint == model.fingerprint
    assert other.with_matmul("bfloat16") is other
    assert other.network is model.with_matmul("bfloat16").network  # and what it has compiled
    training = TrainingSet.checked(model, np.asarray(X), np.zeros(4, int))
    one, two = (Curvature.of(each, training).hvp(V.ravel()) for each in (model, other))
    assert 1e-4 < np.linalg.norm(one - two) / np.linalg.norm(one) < 3e-2


def test_words_and_weights_that_make_no_sense_are_refused():
    check_matmul("bfloat16", np.dtype(np.float32))
    check_matmul("float32", np.dtype(np.float64))
    with pytest.raises(SettingsError, match=r"`matmul` is 'half'.*bfloat16"):
        check_matmul("half", np.dtype(np.float32))
    with pytest.raises(SettingsError, match="weights are float64"):
        check_matmul("bfloat16", np.dtype(np.float64))
