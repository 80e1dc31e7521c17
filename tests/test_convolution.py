"""Convolutions as matrix products: the same numbers as JAX's own, in every form they come in."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rainpp
from rainpp import convolution
from rainpp.convolution import with_matrix_products

# Forms of `lax.conv_general_dilated`: shape of the inputs, of the kernel, and its settings.
FORMS = {
    "channels last": ((2, 7, 6, 3), (3, 3, 3, 4), ("NHWC", "HWIO", "NHWC"), {}),
    "channels first": ((2, 3, 7, 6), (4, 3, 3, 3), ("NCHW", "OIHW", "NCHW"), {}),
    "mixed": ((2, 7, 6, 3), (4, 3, 2, 3), ("NHWC", "OIHW", "NCHW"), {}),
    "strides": ((2, 9, 8, 3), (3, 2, 3, 4), ("NHWC", "HWIO", "NHWC"), {"window_strides": (2, 3)}),
    "same": ((2, 9, 8, 3), (3, 3, 3, 4), ("NHWC", "HWIO", "NHWC"), {"padding": "SAME"}),
    "cropped": (
        (2, 9, 8, 3), (3, 3, 3, 4), ("NHWC", "HWIO", "NHWC"), {"padding": [(-1, 2), (0, -2)]},
    ),
    "dilated": ((2, 9, 8, 3), (3, 2, 3, 4), ("NHWC", "HWIO", "NHWC"), {"rhs_dilation": (2, 3)}),
    "one place": ((2, 5, 4, 3), (1, 1, 3, 4), ("NHWC", "HWIO", "NHWC"), {"window_strides": (2, 2)}),
    "a line": ((2, 11, 3), (4, 3, 5), ("NWC", "WIO", "NWC"), {}),
    "a cube": ((1, 4, 5, 4, 2), (2, 2, 2, 2, 3), ("NDHWC", "DHWIO", "NDHWC"), {}),
}  # fmt: skip
# What stays as it is.
OTHERS = {
    "groups": ((2, 7, 6, 4), (3, 3, 2, 4), ("NHWC", "HWIO", "NHWC"), {"feature_group_count": 2}),
    "transposed": (
        (2, 5, 4, 3),
        (3, 3, 3, 4),
        ("NHWC", "HWIO", "NHWC"),
        {"lhs_dilation": (2, 2), "padding": [(1, 1)] * 2},
    ),
    "large kernel": ((1, 12, 12, 1), (9, 9, 1, 2), ("NHWC", "HWIO", "NHWC"), {}),
}


def convolve(kernel, rows, numbers=("NHWC", "HWIO", "NHWC"), **settings):
    spatial = rows.ndim - 2
    given = {"window_strides": (1,) * spatial, "padding": "VALID"} | settings
    return lax.conv_general_dilated(rows, kernel, dimension_numbers=numbers, **given)


def arrays(*shapes):
    generator = np.random.default_rng(0)
    return [jnp.asarray(generator.normal(size=shape)) for shape in shapes]


def primitives(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize("form", FORMS)
def test_values_and_derivatives_are_those_of_the_convolution(form):
    shape, kernel_shape, numbers, settings = FORMS[form]
    rows, kernel, tangent = arrays(shape, kernel_shape, kernel_shape)
    plain = partial(convolve, numbers=numbers, **settings)
    product = with_matrix_products(plain)
    assert "conv_general_dilated" not in primitives(product, kernel, rows)
    np.testing.assert_allclose(product(kernel, rows), plain(kernel, rows), atol=1e-12)

    def bent(of, kernel, rows):
        return jnp.sum(jnp.tanh(of(kernel, rows)) ** 2)

    def along(of):
        slope = jax.grad(partial(bent, of), argnums=(0, 1))
        return jax.jit(lambda k, t: jax.jvp(lambda at: slope(at, rows), (k,), (t,)))(
            kernel, tangent
        )

    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-11), along(product), along(plain))


@pytest.mark.parametrize("form", OTHERS)
def test_other_convolutions_stay(form):
    shape, kernel_shape, numbers, settings = OTHERS[form]
    rows, kernel = arrays(shape, kernel_shape)
    plain = partial(convolve, numbers=numbers, **settings)
    product = with_matrix_products(plain)
    assert "conv_general_dilated" in primitives(product, kernel, rows)
    np.testing.assert_array_equal(product(kernel, rows), plain(kernel, rows))


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(f))])
def test_convolutions_inside_calls_are_found(wrap):
    rows, kernel = arrays((2, 7, 6, 3), (3, 3, 3, 4))
    called = wrap(convolve)
    product = with_matrix_products(lambda k, x: jax.nn.relu(called(k, x)))
    assert "conv_general_dilated" not in primitives(product, kernel, rows)
    np.testing.assert_allclose(
        product(kernel, rows), jax.nn.relu(convolve(kernel, rows)), atol=1e-12
    )


def test_a_checkpoint_is_still_one():
    rows, kernel = arrays((2, 7, 6, 3), (3, 3, 3, 4))
    product = with_matrix_products(jax.checkpoint(convolve))
    assert "checkpoint" in primitives(product, kernel, rows) or "remat" in primitives(
        product, kernel, rows
    )


def test_convolutions_in_a_loop_stay_and_beside_it_do_not():
    rows, kernel, square = arrays((2, 7, 6, 3), (3, 3, 3, 3), (3, 3, 3, 3))

    def apply(kernel, rows):
        first = convolve(kernel, rows, padding="SAME")
        step = lambda x, _: (jnp.tanh(convolve(square, x, padding="SAME")), None)  # noqa: E731
        return lax.scan(step, first, None, length=2)[0]

    product = with_matrix_products(apply)
    assert primitives(product, kernel, rows).count("conv_general_dilated") == 1
    np.testing.assert_allclose(product(kernel, rows), apply(kernel, rows), atol=1e-12)


def test_half_precision_and_traced_constants():
    rows, kernel = (part.astype(jnp.bfloat16) for part in arrays((2, 7, 6, 3), (3, 3, 3, 4)))
    product = with_matrix_products(convolve)
    assert product(kernel, rows).dtype == jnp.bfloat16

    def of_scale(scale):  # `scale` is a tracer that the function closes over
        found = with_matrix_products(lambda k, x: convolve(k * scale, x))(kernel, rows)
        return jnp.sum(found.astype(jnp.float32))

    scale = jnp.asarray(2.0, jnp.bfloat16)
    expected = jnp.sum(convolve(kernel, rows).astype(jnp.float32))
    assert float(jax.grad(of_scale)(scale)) == pytest.approx(float(expected), rel=0.05)


def test_an_accelerator_keeps_its_convolutions(monkeypatch):
    monkeypatch.setattr(convolution.jax, "default_backend", lambda: "gpu")
    rows, kernel = arrays((2, 7, 6, 3), (3, 3, 3, 4))
    product = with_matrix_products(convolve)
    assert "conv_general_dilated" in primitives(product, kernel, rows)


def test_a_model_without_convolutions_is_called_as_it_is():
    product = with_matrix_products(lambda w, x: jax.nn.relu(x @ w))
    weights, rows = arrays((3, 2), (5, 3))
    assert "concatenate" not in primitives(product, weights, rows)


def test_a_model_uses_them():
    def apply(params, rows):
        return convolve(params["kernel"], rows).reshape(rows.shape[0], -1)

    rows, kernel = arrays((3, 4, 4, 1), (3, 3, 1, 2))
    model = rainpp.Model(apply, {"kernel": kernel})
    found = primitives(model.network.outputs, model.theta, rows)
    assert "conv_general_dilated" not in found
    np.testing.assert_allclose(
        model.outputs(model.theta, rows), apply({"kernel": kernel}, rows), atol=1e-12
    )
