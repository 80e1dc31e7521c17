"""Which data sets are there, and whether they are the published ones.

    python -m experiments.check_data

Checksums are of the content: MNIST as its four idx files unpacked, whatever file it came in; ADULT
without its first line, which copies replace. CIFAR-10 that went through JPEG is told apart by its
form, as its pixels are not the original ones.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator

import numpy as np

from experiments import cases, commands, data
from experiments.markdown import table
from rainpp.errors import DataError, one_line

# MD5, as the publishers give them or as the published files have them. They find a file that is
# damaged or another one, not one that was made to deceive.
PUBLISHED = {
    "MNIST": (
        "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637",
    ),
    "ADULT": ("5d7c39d7b8804f071cdd1f2a7c460872", "35238206dfdf7f1fe215bbb874adecdc"),
}  # fmt: skip
_CROSS_VALIDATOR = b"|1x3 Cross validator\n"


def main() -> None:
    print(table(["data", "rows", "state"], list(rows())))


def rows() -> Iterator[list[str]]:
    """One line for every data set of the paper."""
    for name, look in _LOOKS.items():
        try:
            yield [name, *look()]
        except DataError as problem:
            yield [name, "", f"cannot be used: {one_line(problem)}"]


def images(name: str, found: data.Dataset) -> tuple[str, str]:
    """Rows of a data set of 28×28 images, and whether it is the published one."""
    counted = f"{len(found.train_labels):,} + {len(found.test_labels):,}"
    return counted, _state(name, [hashlib.md5(part).hexdigest() for part in _idx(found)])


def _idx(found: data.Dataset) -> Iterator[bytes]:
    """A data set as the bytes of its four idx files."""
    for inputs, labels in (
        (found.train_inputs, found.train_labels),
        (found.test_inputs, found.test_labels),
    ):
        pixels = np.rint(inputs * 255).astype(np.uint8)
        yield struct.pack(">IIII", 2051, len(inputs), 28, 28) + pixels.tobytes()
        yield struct.pack(">II", 2049, len(labels)) + labels.astype(np.uint8).tobytes()


def _people() -> tuple[str, str]:
    found = data.adult()
    sums: list[str] = []
    for name, first in (("adult.data", b""), ("adult.test", _CROSS_VALIDATOR)):
        content = (data.data_folder() / name).read_bytes()
        if not content[:1].isdigit():
            content = first + content.split(b"\n", 1)[1]
        sums.append(hashlib.md5(content).hexdigest())
    return f"{len(found.train_labels):,} + {len(found.test_labels):,}", _state("ADULT", sums)


def _photos() -> tuple[str, str]:
    found = data.cifar10()
    return f"{len(found.train_labels):,} + {len(found.test_labels):,}", found.form


def _sentences() -> tuple[str, str]:
    training, tested = cases.sentences()
    return f"{len(training):,} + {len(tested):,}", "no checksum is published"


def _state(name: str, sums: list[str]) -> str:
    if name not in PUBLISHED:
        return "no checksum is known"
    return "as published" if tuple(sums) == PUBLISHED[name] else f"not as published: {sums}"


_LOOKS: dict[str, Callable[[], tuple[str, str]]] = {
    "MNIST": lambda: images("MNIST", data.mnist()),
    "Fashion-MNIST": lambda: images("Fashion-MNIST", data.fashion_mnist()),
    "CIFAR-10": _photos,
    "SST-2": _sentences,
    "ADULT": _people,
}


if __name__ == "__main__":
    commands.without_options(main, __doc__)
