"""Tiny files in the formats of the public downloads."""

from __future__ import annotations

import gzip
import io
import struct

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

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


def photos(count, seed):
    """(count, 32, 32, 3) smooth images, which JPEG hardly changes, and (count,) labels; uint8."""
    generator = np.random.default_rng(seed)
    corners = generator.integers(60, 200, size=(count, 1, 1, 3))
    slope = (
        np.linspace(0, 40, 32)[None, :, None, None] + np.linspace(0, 15, 32)[None, None, :, None]
    )
    return (corners + slope).astype(np.uint8), (np.arange(count) % 10).astype(np.uint8)


def write_photo_binaries(folder, *, train, test):
    """Five training files and a test file as in cifar-10-binary.tar.gz; rows in order."""
    folder.mkdir(exist_ok=True)
    parts = np.array_split(np.arange(len(train[1])), 5)
    named = [(f"data_batch_{number}.bin", train, rows) for number, rows in enumerate(parts, 1)]
    for name, (pixels, labels), rows in [*named, ("test_batch.bin", test, slice(None))]:
        planes = pixels[rows].transpose(0, 3, 1, 2).reshape(len(labels[rows]), -1)
        table = np.concatenate([labels[rows][:, None], planes], axis=1)
        (folder / name).write_bytes(table.tobytes())


def write_photo_tables(folder, *, train, test):
    """Tables of JPEG images."""
    for part, (pixels, labels) in (("train", train), ("test", test)):
        images = [jpeg(image) for image in pixels]
        table = pa.table({"id": np.arange(len(labels)), "label": labels, "image": images})
        pq.write_table(table, folder / f"cifar10_{part}.parquet")


def jpeg(pixels):
    content = io.BytesIO()
    PIL.Image.fromarray(pixels).save(content, format="JPEG", quality=95, subsampling=0)
    return content.getvalue()
