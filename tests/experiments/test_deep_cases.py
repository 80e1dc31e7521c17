"""The networks' cases: what is planted, what is asked, and what a result says about the data."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

from experiments import cases, data, deep_cases, nets
from experiments.deep_cases import Photographed, Reviewed
from experiments.train_nnx import Schedule
from rainpp.errors import DataError
from tests.experiments import files

FEW = Schedule(epochs=1, settling=0, batch_size=10)
PHOTOS, MORE_PHOTOS = files.photos(60, seed=0), files.photos(20, seed=1)
REVIEWS = [
    (0, "a dull film"),
    (1, "A moving film"),
    (0, "it's a dull and very very long one"),
    (1, "great"),
    (0, "dull"),
    (0, "---"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAINPP_DATA", str(tmp_path))
    return tmp_path


def linear_photo_case(asked):
    """With a linear model in the place of the network: nothing else depends on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            deep_cases, "photo_network", lambda _: nets.Linear(8 * 8 * 3, rngs=nnx.Rngs(0))
        )
        return deep_cases.photo_case(asked)


@pytest.fixture(scope="module")
def photo_case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    files.write_photo_binaries(folder, train=PHOTOS, test=MORE_PHOTOS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAINPP_DATA", str(folder))
        return linear_photo_case(Photographed("cnn", FEW, rows=60, tested=20, side=8, rate=0.5))


def test_half_of_the_automobiles_are_labelled_as_horses(photo_case):
    case, _ = photo_case
    wrong = np.flatnonzero(case.corrupted)
    assert len(wrong) == 3
    assert_array_equal(PHOTOS[1][wrong], [1, 1, 1])
    assert_array_equal(case.training.labels[wrong], [7, 7, 7])
    assert_array_equal(np.delete(case.training.labels, wrong), np.delete(PHOTOS[1], wrong))


def test_images_are_averaged_and_standardised_by_the_training_rows(photo_case):
    case, _ = photo_case
    mean = PHOTOS[0].mean(axis=(0, 1, 2)) / 255
    spread = PHOTOS[0].std(axis=(0, 1, 2)) / 255
    for inputs, pixels in ((case.training.inputs, PHOTOS[0]), (case.inference, MORE_PHOTOS[0])):
        corner = pixels[:, :4, 4:8].mean(axis=(1, 2)) / 255
        assert inputs.shape[1:] == (8, 8, 3)
        assert_allclose(inputs[:, 0, 1], (corner - mean) / spread, rtol=1e-4, atol=1e-4)


def test_complaints_are_too_few_automobiles_and_vehicles_that_are_predicted_as_animals(photo_case):
    case, _ = photo_case
    count = np.zeros((20, 10))
    count[:, 1] = 1
    assert_array_equal(case.complaints["Q3"], count)
    probabilities = case.model.probabilities(case.inference)
    vehicles = np.isin(MORE_PHOTOS[1], [0, 1, 8, 9])
    assert_allclose(
        case.complaints["Q1"][vehicles], -probabilities[~vehicles].sum(0)[None].repeat(8, axis=0)
    )
    assert_allclose(
        case.complaints["Q1"][~vehicles], -probabilities[vehicles].sum(0)[None].repeat(12, axis=0)
    )


def test_a_result_says_what_the_images_went_through(photo_case, folder):
    case, about = photo_case
    assert about["images"] == "original"
    assert case.name == "CIFAR-10 cnn, 8×8, automobile -> horse 50%"
    files.write_photo_tables(folder, train=PHOTOS, test=MORE_PHOTOS)
    asked = Photographed("wrn10", FEW, rows=60, tested=20, side=8, width=1, target=9)
    case, about = linear_photo_case(asked)
    assert about["images"] == "re-encoded as JPEG"
    assert case.name == "CIFAR-10 wrn10 of width 1, 8×8, automobile -> truck 30%"


@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        (Photographed("cnn", FEW), 302_826),
        (Photographed("wrn10", FEW), 389_722),
        (Photographed("wrn26", FEW), 1_553_626),
    ],
)
def test_networks_have_the_papers_sizes(asked, parameters):
    network = nnx.eval_shape(lambda: deep_cases.photo_network(asked))
    leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == parameters


def write_reviews(folder, header="label\t{text}", order=1):
    for name, text in (("train", "sentence"), ("dev", "content")):
        lines = ["\t".join([str(label), words][::order]) for label, words in REVIEWS]
        path = folder / f"sst2_{name}.tsv"
        path.write_text("\n".join([header.format(text=text), *lines]) + "\n")


class Bag(nnx.Module):
    """Stands for the LSTM, which takes long to compile."""

    def __init__(self, shape, *, rngs):
        self.embedding = nnx.Embed(shape.num_tokens, shape.num_outputs, rngs=rngs)

    def __call__(self, inputs):
        return (self.embedding(inputs["tokens"]) * inputs["mask"][..., None].astype("float32")).sum(
            1
        )


def test_reviews_become_tokens_with_a_mask(folder, monkeypatch):
    write_reviews(folder)
    monkeypatch.setattr(deep_cases.nets_text, "LstmClassifier", Bag)
    asked = Reviewed(FEW, rows=6, length=4, words=3, embedding=2, hidden=2, rate=0.5)
    case, about = deep_cases.review_case(asked)
    order = cases.sentences()[0].sample(6, random_state=0).index
    tokens, mask = (case.training.inputs[name][np.argsort(order)] for name in ("tokens", "mask"))
    assert_array_equal(mask.sum(axis=1), [3, 3, 4, 1, 1, 0])
    assert tokens[0, 1] == tokens[2, 2] == tokens[4, 0] > 1  # dull
    assert tokens[3, 0] == tokens[1, 1] == 1  # not among the three most frequent
    assert_array_equal(tokens[~mask], np.zeros((~mask).sum()))
    assert case.corrupted.sum() == 2
    assert_array_equal(case.training.labels[case.corrupted], [1, 1])
    assert_array_equal(case.complaints["Q3"], np.tile([0.0, -1.0], (6, 1)))
    assert 0 <= about["test_accuracy"] <= 1


def test_reviews_with_their_columns_the_other_way_round(folder):
    write_reviews(folder, "{text}\tlabel", order=-1)
    train, dev = cases.sentences()
    assert list(train.columns) == list(dev.columns) == ["label", "sentence"]
    assert train["label"].tolist() == [label for label, _ in REVIEWS]
    assert dev["sentence"].tolist() == [words for _, words in REVIEWS]


def test_missing_reviews_are_named_with_their_source(folder):
    with pytest.raises(DataError, match=r"sst2_train\.tsv.*https?://.*RAINPP_DATA"):
        cases.sentences()
    write_reviews(folder, "stars\t{text}")
    with pytest.raises(DataError, match="stars"):
        cases.sentences()


def test_classes_are_named_in_the_order_of_the_labels():
    assert data.PHOTO_CLASSES[deep_cases.AUTOMOBILE] == "automobile"
    assert [data.PHOTO_CLASSES[label] for label in deep_cases.VEHICLES] == [
        "airplane",
        "automobile",
        "ship",
        "truck",
    ]
