"""Tiny files in the formats of the public downloads."""

from __future__ import annotations

import gzip
import struct

import numpy as np

PERSON = (
    "{age}, {workclass}, 1, Bachelors, {years}, Never-married, Sales, Husband, White, {sex}, "
    "{gain}, 0, 40, Cuba, {income}"
)
HEADER = (
    "age, workclass, fnlwgt, education, education-num, marital-status, occupation, relationship, "
    "race, sex, capital-gain, capital-loss, hours-per-week, native-country, Y"
)


def images(count, seed):
    """(count, 28, 28) and (count,), uint8."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, size=(count, 28, 28), dtype=np.uint8)
    return pixels, generator.integers(0, 10, size=count, dtype=np.uint8)


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.data


def write_idx(folder, *, train, test, compressed=False):
    folder.mkdir(exist_ok=True)
    for prefix, (pixels, labels) in (("train", train), ("t10k", test)):
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            name, content = f"{prefix}-{kind}-ubyte", idx_bytes(array)
            if compressed:
                name, content = f"{name}.gz", gzip.compress(content)
            (folder / name).write_bytes(content)


def people(count, seed):
    """Persons as dictionaries, of every kind that matters to the planted errors."""
    generator = np.random.default_rng(seed)
    return [
        {
            "age": int(generator.integers(17, 90)),
            "workclass": generator.choice(["Private", "State-gov", "?"]),
            "years": int(generator.integers(1, 17)),
            "sex": generator.choice(["Male", "Female"]),
            "gain": int(generator.choice([0, 5000])),
            "income": generator.choice(["<=50K", ">50K"]),
        }
        for _ in range(count)
    ]


def write_adult(folder, *, train, test, header):
    """With our header line, or as at UCI: none in .data, a remark in .test, a blank last line."""
    folder.mkdir(exist_ok=True)
    for name, persons, dot in (("adult.data", train, ""), ("adult.test", test, ".")):
        lines = [PERSON.format(**person) + dot for person in persons]
        if header:
            lines.insert(0, HEADER)
        elif dot:
            lines.insert(0, "|1x3 Cross validator")
        (folder / name).write_text("\n".join(lines) + ("\n" if header else "\n\n"))
