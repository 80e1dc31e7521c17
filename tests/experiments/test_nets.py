"""Networks of every kind go through the library, and what it computes of them is right."""

from __future__ import annotations

import re

import duckdb
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

import rainpp
from experiments import nets, nets_text
from experiments.models import count_params
from rainpp.adapters.names import joined, named_leaves
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.projection import project_inference, project_training
from rainpp.training_set import TrainingSet
from tests.experiments.net_cases import LINEN, LSTM, NNX, NUM_ROWS, case, rows_for


@pytest.fixture(autouse=True)
def promotion():
    """Flax's LayerNorm promotes float64 statistics with float32, which strictness refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


QUICK = ("cnn", "lstm", "transformer", "linear regression")
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NNX]
# In the quick part already; and a function in SQL returns one number per row.
ONCE_OR_NEVER = ("lstm", "linear regression", "mlp of two values")


@pytest.fixture(params=EVERY)
def net(request):
    return case(request.param, "nnx")


def objective(case):
    """J as a function of θ, all rows in one batch."""
    inputs, labels = jax.tree.map(jnp.asarray, (case.inputs, case.labels))

    def value(theta):
        losses = case.model.example_losses(theta, inputs, labels)
        return losses.mean() + 0.5 * case.model.l2 * jnp.vdot(theta, theta)

    return value


def directions(case, count):
    size = (count, case.model.num_params)
    return np.random.default_rng(1).normal(size=size).astype(case.model.theta.dtype)


def training_of(case):
    return TrainingSet.checked(case.model, case.inputs, case.labels)


def test_products_are_those_of_the_dense_hessian(net):
    dense = np.asarray(jax.jit(jax.hessian(objective(net)))(net.model.theta))
    scale = np.abs(dense).max()
    assert scale > 1e-3
    curvature = Curvature.of(net.model, training_of(net), batch_size=7)
    for vector in directions(net, 3):
        assert_allclose(curvature.hvp(jnp.asarray(vector)), dense @ vector, atol=1e-9 * scale)


@pytest.mark.parametrize("name", ["cnn", "lstm", "transformer", "mlp of two values"])
def test_gauss_newton_products_are_those_of_explicit_jacobians(name):
    net = case(name, "nnx")
    model, inputs = net.model, jax.tree.map(jnp.asarray, net.inputs)
    jacobian = jax.jit(jax.jacrev(lambda t: model.outputs(t, inputs)))(model.theta)
    bend = jax.vmap(jax.hessian(model.criterion.of_row))
    bends = jax.jit(bend)(jax.jit(model.outputs)(model.theta, inputs), jnp.asarray(net.labels))
    (vector,) = directions(net, 1)
    along = jnp.einsum("nrs,nsj,j->nr", bends, jacobian, vector)
    expected = jnp.einsum("nri,nr->i", jacobian, along) / NUM_ROWS + model.l2 * vector
    curvature = Curvature.of(model, training_of(net), batch_size=7, kind="gauss_newton")
    found = curvature.hvp(jnp.asarray(vector))
    assert_allclose(found, expected, atol=1e-9 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("name", ["cnn", "lstm", "transformer"])
def test_products_are_differences_of_gradients(name):
    """Independent of how automatic differentiation is nested: (∇J(θ+hv) - ∇J(θ-hv)) / 2h."""
    net = case(name, "nnx")
    slope, theta = jax.jit(jax.grad(objective(net))), net.model.theta
    (vector,) = directions(net, 1)
    # Steps this small meet no kink of a ReLU here.
    ahead, behind = (slope(theta + step * vector) for step in (1e-7, -1e-7))
    expected = (ahead - behind) / 2e-7
    found = Curvature.of(net.model, training_of(net)).hvp(jnp.asarray(vector))
    assert_allclose(found, expected, atol=2e-6 * float(jnp.abs(expected).max()))


def test_projections_are_those_of_explicit_gradients(net):
    vectors = directions(net, 3)
    inputs, labels = jax.tree.map(jnp.asarray, (net.inputs, net.labels))

    def loss(theta, row, label):
        one = jax.tree.map(lambda leaf: leaf[None], row)
        return net.model.example_losses(theta, one, label[None])[0]

    gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(net.model.theta, inputs, labels)
    found = project_training(net.model, training_of(net), jnp.asarray(vectors), batch_size=7)
    assert_allclose(found.gradients, gradients @ vectors.T, rtol=1e-9, atol=1e-9)
    outputs = jax.jit(jax.jacrev(net.model.network.probabilities))(net.model.theta, inputs)
    _, tangents = project_inference(net.model, net.inputs, jnp.asarray(vectors), batch_size=7)
    assert_allclose(tangents, np.asarray(outputs) @ vectors.T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("framework", ["nnx", "linen"])
@pytest.mark.parametrize("name", LINEN)
def test_no_row_depends_on_the_others(name, framework):
    net = case(name, framework)
    outputs = jax.jit(net.model.outputs)
    together = outputs(net.model.theta, net.inputs)
    for row in (0, 1, NUM_ROWS - 1):
        alone = outputs(net.model.theta, net.take([row]))
        assert_allclose(alone, together[row][None], rtol=1e-12, atol=1e-14)
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    shuffled = outputs(net.model.theta, net.take(order))
    assert_allclose(shuffled, together[order], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("framework", ["nnx", "linen"])
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_what_stands_in_the_padding_does_not_matter(name, framework):
    net = case(name, framework)
    tokens, mask = net.inputs["tokens"], net.inputs["mask"]
    other = {"tokens": np.where(mask, tokens, 6).astype(np.int32), "mask": mask}
    assert np.any(other["tokens"] != tokens)
    theta = net.model.theta
    outputs = jax.jit(net.model.outputs)
    assert_allclose(outputs(theta, other), outputs(theta, net.inputs))
    vector = jnp.asarray(directions(net, 1)[0])
    products = [
        Curvature.of(net.model, TrainingSet.checked(net.model, rows, net.labels)).hvp(vector)
        for rows in (net.inputs, other)
    ]
    assert_allclose(*products, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*optimum")
@pytest.mark.parametrize(
    ("name", "framework"),
    [
        ("lstm", "nnx"),
        ("cnn", "linen"),
        ("linear regression", "nnx"),
        *(
            pytest.param(name, "nnx", marks=pytest.mark.slow)
            for name in NNX
            if name not in ONCE_OR_NEVER
        ),
        pytest.param("lstm", "linen", marks=pytest.mark.slow),
    ],
)
def test_from_flax_to_a_ranking(name, framework, tmp_path):
    net = case(name, framework)
    index = rainpp.precompute(
        net.model, net.inputs, net.labels, k=3, curvature_rows="all", path=tmp_path / "net.rain"
    )
    con = duckdb.connect()
    con.execute(f"CREATE TABLE rows AS SELECT range AS id FROM range({NUM_ROWS})")
    db = rainpp.connect(con)
    db.register_model("predict", net.model, index, encode=net.take)
    ranking = db.sql(query_for(net)).complain(column="n", row=0, should="increase").rank()
    assert np.isfinite(ranking.scores).all()
    assert np.ptp(ranking.scores) > 0
    assert 0 < ranking.coverage <= 1
    ranking.refine(steps=3)
    assert np.isfinite(ranking.scores).all()


def query_for(net):
    if net.model.task != "regression":
        return "SELECT count(*) AS n FROM rows WHERE predict(id) = 1"
    return "SELECT avg(predict(id)) AS n FROM rows"


# --- single precision, sizes, twins ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_single_precision_agrees_with_double(name):
    single, double = case(name, "nnx", "float32"), case(name, "nnx")
    assert single.model.theta.dtype == np.float32
    (vector,) = directions(double, 1)
    products = [
        np.asarray(Curvature.of(c.model, training_of(c)).hvp(jnp.asarray(vector, kind)))
        for c, kind in ((single, "float32"), (double, "float64"))
    ]
    assert_allclose(products[0], products[1], atol=1e-4 * np.abs(products[1]).max())


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda rngs: nets.Cnn(nets.CnnShape(), rngs=rngs), 1_199_882),
        *(
            (lambda rngs, n=n: nets.WideResNet(nets.WideResNetShape(blocks=n), rngs=rngs), count)
            for n, count in zip(
                nets.PAPER_BLOCKS.values(), (389_722, 777_690, 1_553_626), strict=True
            )
        ),
        (lambda rngs: nets_text.LstmClassifier(nets_text.LstmShape(), rngs=rngs), 3_428_482),
        (
            lambda rngs: nets_text.TransformerEncoder(nets_text.TransformerShape(), rngs=rngs),
            967_298,
        ),
    ],
)
def test_parameter_counts(make, count):
    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    assert count_params(nnx.state(abstract, nnx.Param)) == count


@pytest.mark.slow
def test_rematerialised_blocks_have_the_same_products():
    """Blocks computed again in the backward pass, as for batches that would not fit in memory."""
    net = case("wrn", "nnx", "float32")
    again = nnx.clone(net.source[0])
    again.run = nnx.remat(nets.Block.__call__)
    model = rainpp.Model.from_flax(again, loss="cross_entropy", l2=1e-2)
    vector = jnp.asarray(directions(net, 1)[0])
    training = training_of(net)
    products = [Curvature.of(m, training).hvp(vector) for m in (net.model, model)]
    assert_allclose(*products, atol=1e-4 * float(jnp.abs(products[0]).max()))


def as_linen(name):
    """Names of an NNX leaf as the Linen twin spells them: blocks.0.norm1.scale, blocks_0..."""
    return re.sub(r"\.(\d+)\.", r"_\1.", name)


@pytest.mark.parametrize("name", ["cnn", "wrn", "transformer"])
def test_twins_with_the_same_weights_have_the_same_outputs(name):
    ours, theirs = case(name, "nnx"), case(name, "linen")
    found = {as_linen(joined(key)): leaf for key, leaf in named_leaves(nnx.state(ours.source[0]))}
    wanted = [name for name, _ in named_leaves(theirs.source[1])]
    leaves = [found[joined(name[1:])] for name in wanted]
    variables = jax.tree.unflatten(jax.tree.structure(theirs.source[1]), leaves)
    twin = rainpp.Model.from_flax(theirs.source[0], variables)
    assert_allclose(
        jax.jit(twin.outputs)(twin.theta, ours.inputs),
        jax.jit(ours.model.outputs)(ours.model.theta, ours.inputs),
        rtol=1e-12,
    )


def test_an_nnx_rnn_that_starts_its_own_carry():
    """The usual way to call nnx.RNN: the first carry is asked of a stream of random numbers."""

    class Plain(nnx.Module):
        def __init__(self, rngs):
            self.rnn = nnx.RNN(nnx.LSTMCell(3, LSTM.hidden, rngs=rngs), return_carry=True)
            self.head = nnx.Linear(LSTM.hidden, 2, rngs=rngs)

        def __call__(self, rows):
            return self.head(self.rnn(rows)[0][1])

    rows = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    model = rainpp.Model.from_flax(Plain(nnx.Rngs(0)), l2=1e-2)
    training = TrainingSet.checked(model, rows, np.arange(6) % 2)
    product = Curvature.of(model, training).hvp(model.theta)
    assert np.isfinite(np.asarray(product)).all()
    assert ravel_pytree(model.params)[0].size == model.num_params


def test_the_rows_have_an_empty_sentence_and_a_full_one():
    inputs, _ = rows_for("lstm", "float32")
    assert not inputs["mask"][0].any()
    assert inputs["mask"][1].all()
