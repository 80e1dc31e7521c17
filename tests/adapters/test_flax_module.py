"""Flax models become pure functions in evaluation mode, and nothing of the user's changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.core import freeze
from numpy.testing import assert_allclose, assert_array_equal

from rainpp.adapters.flax_module import split_flax
from rainpp.errors import ModelError
from rainpp.model import Model

ROWS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


class LinenNet(linen.Module):
    """Dense, batch norm, dropout: the two layers that behave differently while training."""

    @linen.compact
    def __call__(self, x, train: bool = True):
        x = linen.Dense(4)(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.Dense(2)(x)


class NnxNet(nnx.Module):
    """The same network in NNX."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.List([nnx.Linear(4, 2, rngs=rngs)])

    def __call__(self, x):
        return self.last[0](self.dropout(self.norm(self.first(x))))


@pytest.fixture(scope="module")
def linen_variables():
    """Variables after one step in training mode, so that running statistics are not 0 and 1."""
    net = LinenNet()
    variables = net.init(jax.random.key(0), ROWS, train=False)
    _, changed = net.apply(
        variables, ROWS, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}
    )
    return {"params": variables["params"], **changed}


@pytest.fixture
def nnx_net():
    net = NnxNet(nnx.Rngs(0))
    net(ROWS)
    return net


@pytest.fixture(params=["linen", "nnx"])
def case(request):
    """(what the user passes, outputs of the module itself in evaluation mode)."""
    if request.param == "linen":
        variables = request.getfixturevalue("linen_variables")
        return (LinenNet(), variables), LinenNet().apply(variables, ROWS, train=False)
    net = request.getfixturevalue("nnx_net")
    evaluated = nnx.clone(net)
    evaluated.eval()
    return (net,), evaluated(ROWS)


def test_same_outputs_as_the_module_in_evaluation_mode(case):
    given, expected = case
    apply, params = split_flax(*given)
    assert_allclose(apply(params, ROWS), expected, rtol=1e-6)
    assert_array_equal(apply(params, ROWS), apply(params, ROWS))


def test_a_row_does_not_depend_on_its_batch(case):
    given, _ = case
    apply, params = split_flax(*given)
    assert_allclose(apply(params, ROWS[:1]), apply(params, ROWS)[:1], rtol=1e-5)


def test_gradients_reach_the_parameters_only(case):
    given, _ = case
    model = Model.from_flax(*given)
    labels = jnp.asarray([0, 1, 0, 1, 0, 1], jnp.int32)
    # Dense 3x4+4, batch norm's scale and bias 4+4, dense 4x2+2; no running statistics.
    assert model.num_params == 34
    gradient = jax.jit(jax.grad(lambda t: model.example_losses(t, ROWS, labels).sum()))(model.theta)
    assert np.isfinite(gradient).all()
    step = 1e-3 * np.random.default_rng(1).normal(size=34).astype(np.float32)
    up, down = (model.example_losses(model.theta + s, ROWS, labels).sum() for s in (step, -step))
    assert_allclose((up - down) / 2, gradient @ step, rtol=2e-2)


def test_linen_and_nnx_agree_on_the_same_weights(linen_variables, nnx_net):
    params, stats = linen_variables["params"], linen_variables["batch_stats"]["BatchNorm_0"]
    nnx.update(
        nnx_net,
        {
            "first": params["Dense_0"],
            "norm": {**params["BatchNorm_0"], **stats},
            "last": {0: params["Dense_1"]},
        },
    )
    linen_apply, linen_params = split_flax(LinenNet(), linen_variables)
    nnx_apply, nnx_params = split_flax(nnx_net)
    assert_allclose(linen_apply(linen_params, ROWS), nnx_apply(nnx_params, ROWS), rtol=1e-6)


def test_the_users_model_stays_in_training_mode_and_keeps_its_state(nnx_net):
    before = jax.tree.map(np.array, nnx.state(nnx_net, nnx.Param, nnx.BatchStat))
    apply, params = split_flax(nnx_net)
    apply(jax.tree.map(lambda leaf: leaf + 1, params), ROWS)
    assert not nnx_net.dropout.deterministic
    assert not nnx_net.norm.use_running_average
    after = nnx.state(nnx_net, nnx.Param, nnx.BatchStat)
    jax.tree.map(assert_array_equal, before, after)


def test_training_on_does_not_change_or_delete_the_frozen_model(nnx_net):
    apply, params = split_flax(nnx_net)
    before = np.asarray(apply(params, ROWS))

    @jax.jit
    def step(params):
        return jax.tree.map(lambda leaf: 0.5 * leaf, params)

    donated = jax.jit(step, donate_argnums=0)(nnx.state(nnx_net, nnx.Param))
    nnx.update(nnx_net, donated)
    assert_array_equal(apply(params, ROWS), before)


def test_retrained_weights_fit_back_both_ways(case):
    given, expected = case
    model = Model.from_flax(*given)
    optimiser = optax.sgd(0.1)
    changed = jax.tree.map(lambda leaf: leaf * 2, model.params)
    updates, _ = optimiser.update(changed, optimiser.init(model.params))
    retrained = model.with_params(optax.apply_updates(model.params, updates))
    assert not np.allclose(retrained.outputs(retrained.theta, ROWS), expected)
    if len(given) == 1:  # NNX: also the state of a model trained elsewhere
        nnx.update(given[0], retrained.params)
        assert_array_equal(model.with_params(nnx.state(given[0], nnx.Param)).theta, retrained.theta)


def test_frozen_dicts_are_accepted(linen_variables):
    apply, params = split_flax(LinenNet(), freeze(linen_variables))
    assert type(params) is dict
    plain, _ = split_flax(LinenNet(), linen_variables)
    assert_array_equal(apply(params, ROWS), plain(params, ROWS))


class SwitchedLinen(linen.Module):
    """A switch among the attributes, as the Flax examples of transformers have it."""

    deterministic: bool | None = False

    @linen.compact
    def __call__(self, x, deterministic: bool | None = None):
        off = linen.merge_param("deterministic", self.deterministic, deterministic)
        return linen.Dropout(0.5, deterministic=off)(linen.Dense(2)(x))


@pytest.mark.parametrize("given", [False, None])
def test_linen_switch_as_attribute(given):
    net = SwitchedLinen(deterministic=given)
    apply, params = split_flax(net, SwitchedLinen(True).init(jax.random.key(0), ROWS))
    assert_array_equal(apply(params, ROWS), SwitchedLinen(True).apply({"params": params}, ROWS))
    assert net.deterministic is given


class SwitchedNnx(nnx.Module):
    """Switches NNX's own `eval` does not know: an attribute and an argument."""

    def __init__(self, rngs: nnx.Rngs):
        self.dense = nnx.Linear(3, 2, rngs=rngs)
        self.training = True

    def __call__(self, x, train: bool = True):
        return self.dense(x) + float(self.training) + float(train)


def test_nnx_switches_by_name():
    net = SwitchedNnx(nnx.Rngs(0))
    apply, params = split_flax(net)
    assert_array_equal(apply(params, ROWS), net.dense(ROWS))
    assert net.training


class UndecidedNnx(nnx.Module):
    """Dropout that is told at every call, by a view, or not at all."""

    def __init__(self, rngs: nnx.Rngs):
        self.dropout = nnx.Dropout(0.5, deterministic=None, rngs=rngs)
        self.dense = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.dense(x))


def test_nnx_dropout_without_a_default_is_off():
    net = UndecidedNnx(nnx.Rngs(0))
    apply, params = split_flax(net)
    assert_array_equal(apply(params, ROWS), net.dense(ROWS))
    assert net.dropout.deterministic is None


class RematNnx(nnx.Module):
    """Its layers are computed again in the backward pass, as large models do to save memory."""

    def __init__(self, rngs: nnx.Rngs):
        self.net = NnxNet(rngs)

    def __call__(self, x):
        return nnx.remat(lambda net, rows: net(rows))(self.net, x)


def test_nnx_remat_inside_a_compiled_gradient():
    """Batch statistics and random states made outside the trace were "cannot mutate" errors."""
    net = RematNnx(nnx.Rngs(0))
    remat, plain = Model.from_flax(net), Model.from_flax(net.net)
    slopes = [
        jax.jit(jax.grad(lambda t, model=model: model.outputs(t, ROWS).sum()))(model.theta)
        for model in (remat, plain)
    ]
    assert_allclose(*slopes, rtol=1e-6)


class AlwaysTraining(linen.Module):
    """No way to switch dropout off."""

    @linen.compact
    def __call__(self, x):
        return linen.Dropout(0.5, deterministic=False)(linen.Dense(2)(x))


def test_a_model_that_cannot_be_evaluated_says_so():
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    model = Model.from_flax(AlwaysTraining(), AlwaysTraining().init(keys, ROWS))
    with pytest.raises(ModelError, match="AlwaysTraining cannot be applied in evaluation mode"):
        model.output_width(ROWS)


@pytest.mark.parametrize(
    ("module", "variables", "words"),
    [
        (LinenNet, None, "is the class LinenNet; pass an instance"),
        (LinenNet(), None, "`variables` is missing"),
        (LinenNet(), {"Dense_0": {}}, r"collections \['Dense_0'\] but not \"params\""),
        (LinenNet(), [1], "`variables` is a list"),
        (np.tanh, None, r"is a ufunc; .* rainpp.Model\(apply, params\)"),
        (NnxNet(nnx.Rngs(0)), {"params": {}}, "NNX model holds its own weights"),
    ],
)
def test_what_is_not_a_flax_model_is_refused(module, variables, words):
    with pytest.raises(ModelError, match=words):
        split_flax(module, variables)


def test_what_a_training_function_returns_stands_for_its_model():
    """Variables, a module or bare parameters: each becomes the model that was trained."""
    inputs = np.random.default_rng(0).normal(size=(4, 3))
    linen_module = linen.Dense(2, param_dtype=np.float64)
    first, second = (linen_module.init(jax.random.key(seed), inputs) for seed in (0, 1))
    model = Model.from_flax(linen_module, first)
    expected = Model.from_flax(linen_module, second).probabilities(inputs)
    for fitted in (second, second["params"], Model.from_flax(linen_module, second)):
        np.testing.assert_allclose(model.refitted(fitted).probabilities(inputs), expected)

    one, two = (nnx.Linear(3, 2, rngs=nnx.Rngs(seed), param_dtype=np.float64) for seed in (0, 1))
    model = Model.from_flax(one)
    expected = Model.from_flax(two).probabilities(inputs)
    for fitted in (two, nnx.state(two, nnx.Param)):
        np.testing.assert_allclose(model.refitted(fitted).probabilities(inputs), expected)


def test_parameters_of_another_model_are_named_by_leaf():
    inputs = np.zeros((1, 3))
    module = linen.Dense(2, param_dtype=np.float64)
    model = Model.from_flax(module, module.init(jax.random.key(0), inputs))
    with pytest.raises(ModelError, match=r"has an extra `scale`"):
        model.refitted({**model.params, "scale": np.ones(2)})
    with pytest.raises(ModelError, match=r"`kernel` of shape \(4, 2\); this model's is \(3, 2\)"):
        model.refitted({**model.params, "kernel": np.ones((4, 2))})
    with pytest.raises(ModelError, match="returned None"):
        model.refitted(None)
