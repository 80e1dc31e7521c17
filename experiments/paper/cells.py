"""Which models are trained on which errors, at which size: the rows of every figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rainpp.errors import SettingsError

Size = Literal["small", "full"]
SIZES: tuple[Size, ...] = ("small", "full")

NETWORKS = {
    "mnist": ("logistic", "mlp", "cnn"),
    "fashion": ("logistic", "mlp", "cnn"),
    "cifar10": ("wrn10", "wrn18", "wrn26"),
    "sst2": ("lstm",),
    "adult": ("logistic",),
}
# §6.1.1.
PAPER_PARAMETERS = {
    "logistic": 7_850, "mlp": 1_800_000, "cnn": 1_200_000, "wrn10": 390_000, "wrn18": 778_000,
    "wrn26": 1_550_000, "lstm": 3_400_000, "adult": 50,
}  # fmt: skip
# Tables 2 and 3.
FLIP_RATES = (0.1, 0.2, 0.3, 0.4)
CORRUPTIONS = {
    "flip": FLIP_RATES,
    "two flips": FLIP_RATES,
    "blur class": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "salt class": (0.7, 0.8, 0.9, 1.0),
    "blur all": FLIP_RATES,
    "salt all": FLIP_RATES,
    "men": (0.5, 0.6, 0.7),
}
_FEW = (0.1, 0.4)


@dataclass(frozen=True)
class Cell:
    """One trained model with planted errors.

    Attributes
    ----------
    data, network : names in `NETWORKS`.
    corruption : a name in `CORRUPTIONS`.
    rate : of the rows of the class, or, for "... all", of all rows.
    """

    data: str
    network: str
    corruption: str
    rate: float
    seed: int = 0
    size: Size = "small"

    @property
    def name(self) -> str:
        """With everything that tells it from others of its size."""
        return f"{self.data} {self.network}, {self.corruption} {self.rate:.0%}, seed {self.seed}"


def cells(size: Size) -> list[Cell]:
    """Those of one size that are measured unless others are named, in that order."""
    return list(_full() if size == "full" else _small())


def named(size: Size, words: Sequence[str]) -> list[Cell]:
    """Those of one size with all of some words in their names; without words, `cells`.

    Raises
    ------
    SettingsError : there are none.
    """
    known = cells(size)
    if size == "small" and any(name in word for word in words for name in ("cnn", "wrn10")):
        known += _further()
    found = [cell for cell in known if all(word in cell.name for word in words)]
    if not found:
        kinds = ", ".join(dict.fromkeys(f"{cell.data} {cell.network}" for cell in known))
        errors = ", ".join(dict.fromkeys(cell.corruption for cell in known))
        raise SettingsError(
            f"`--only` is {list(words)}, and no cell of size {size} has all of these in its name. "
            f"Names are like {known[0].name!r}; there are {kinds}, with {errors}."
        )
    return found


def _full() -> Iterator[Cell]:
    for data, networks in NETWORKS.items():
        for network in networks:
            for corruption, rates in CORRUPTIONS.items():
                if corruption in _told_of(data):
                    for rate in rates:
                        for seed in (0, 1, 2):
                            yield Cell(data, network, corruption, rate, seed, "full")


def _told_of(data: str) -> tuple[str, ...]:
    """The errors the paper plants in a data set."""
    if data == "sst2":
        return ("flip",)
    if data == "adult":
        return ("flip", "men")
    images = ("flip", "blur all", "salt all")
    of_one_class = {
        "mnist": ("two flips", "blur class", "salt class"),  # the last one in §6.9
        "fashion": ("blur class",),
        "cifar10": ("salt class",),
    }
    return (*images, *of_one_class[data])


def _small() -> Iterator[Cell]:
    """Three seeds where a fit takes seconds; one where it takes a minute."""
    for seed in (0, 1, 2):
        for rate in FLIP_RATES:
            yield Cell("mnist", "logistic", "flip", rate, seed)
        for rate in CORRUPTIONS["men"]:
            yield Cell("adult", "logistic", "men", rate, seed)
        for rate in FLIP_RATES:
            yield Cell("adult", "logistic", "flip", rate, seed)
        for rate in _FEW:
            yield Cell("mnist", "mlp", "flip", rate, seed)
            yield Cell("mnist", "mlp", "two flips", rate, seed)
    for corruption, rates in (
        ("blur class", (0.3, 0.6, 1.0)),
        ("salt class", (0.7, 0.8, 0.9, 1.0)),
        ("blur all", (0.4,)),
        ("salt all", (0.4,)),
    ):
        for network in ("logistic", "mlp"):
            for rate in rates:
                yield Cell("mnist", network, corruption, rate)
    for corruption in ("flip", "two flips"):
        for rate in _FEW:
            yield Cell("mnist", "cnn", corruption, rate)
    yield Cell("sst2", "lstm", "flip", 0.2)
    yield Cell("sst2", "lstm", "flip", 0.4)
    yield Cell("cifar10", "wrn10", "flip", 0.4)
    yield Cell("cifar10", "wrn10", "salt class", 0.9)


def _further() -> Iterator[Cell]:
    """Small ones that would make a run of everything longer than half an hour on two cores."""
    for seed in (0, 1, 2):
        for corruption in ("flip", "two flips"):
            for rate in FLIP_RATES:
                if seed or rate not in _FEW:
                    yield Cell("mnist", "cnn", corruption, rate, seed)
    for rate in (0.7, 1.0):
        yield Cell("mnist", "cnn", "salt class", rate)
    yield Cell("cifar10", "wrn10", "flip", 0.2)
