"""The data sets of the paper, read from files that anybody can download.

Files are looked for in the folder named by the environment variable RAINPP_DATA, and otherwise in
`../shared/data` beside the repository. Nothing is downloaded.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rainpp.errors import DataError, one_line

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

_MNIST_SOURCE = (
    "the four idx files of https://storage.googleapis.com/cvdf-datasets/mnist/, or "
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
)
_FASHION_SOURCE = (
    "the four idx files of http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
)
_CIFAR_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_ADULT_SOURCE = "https://archive.ics.uci.edu/dataset/2/adult"


@dataclass(frozen=True)
class Dataset:
    """Training and test rows of a classification task.

    Attributes
    ----------
    train_inputs, test_inputs : (n, features) float32.
    train_labels, test_labels : (n,) classes from 0.
    """

    train_inputs: Floats
    train_labels: Labels
    test_inputs: Floats
    test_labels: Labels


@dataclass(frozen=True)
class Photos(Dataset):
    """Colour images; inputs are (n, height, width, 3) float32 in [0, 1].

    Attributes
    ----------
    form : what the pixels went through, "original" or "re-encoded as JPEG": part of every result.
    """

    form: str


@dataclass(frozen=True)
class AdultDataset(Dataset):
    """ADULT: label 1 is an income above 50K, and the rows as a person would read them.

    Attributes
    ----------
    train_frame, test_frame : the columns of `COLUMNS`, in the order of the inputs' rows; unknown
        values are "?", `income` is "<=50K" or ">50K".
    """

    train_frame: pd.DataFrame
    test_frame: pd.DataFrame


def data_folder() -> Path:
    """Where the data files are expected; it need not exist."""
    named = os.environ.get("RAINPP_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


# --- MNIST and Fashion-MNIST ---------------------------------------------------------------------

_IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Ours, then the one that Keras downloads.
_NPZ_KEYS = (
    ("train_image", "train_label", "test_image", "test_label"),
    ("x_train", "y_train", "x_test", "y_test"),
)

# A zip file is read through zlib and a NumPy header; each has words of its own for damage.
_DAMAGED_ARCHIVE = (
    ValueError, OSError, EOFError, TypeError, NotImplementedError, RuntimeError, SyntaxError,
    MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def mnist() -> Dataset:
    """Handwritten digits: 60 000 + 10 000 images of 28×28, flattened to 784 numbers in [0, 1].

    Read from `mnist.npz`, or from the four idx files (also `.gz`) in the data folder.

    Raises
    ------
    DataError : a file is missing or is not of the expected format.
    """
    folder = data_folder()
    archive = folder / "mnist.npz"
    if archive.exists():
        return _images(archive, _read_npz(archive))
    return _images(folder, _read_idx_files(folder, "mnist.npz or ", _MNIST_SOURCE))


def fashion_mnist() -> Dataset:
    """Clothing in the format of MNIST, from the idx files in the subfolder `fashion-mnist`.

    A subfolder, because the files carry the same names as those of MNIST. Classes: 0 T-shirt,
    1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot.

    Raises
    ------
    DataError : a file is missing or is not of the expected format.
    """
    folder = data_folder() / "fashion-mnist"
    return _images(folder, _read_idx_files(folder, "", _FASHION_SOURCE))


def _images(source: Path, arrays: list[NDArray[np.uint8]]) -> Dataset:
    train_images, train_labels, test_images, test_labels = arrays
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if images.shape[1:] != (28, 28) or not len(images) or labels.shape != images.shape[:1]:
            raise DataError(
                f"{source} holds images {images.shape} with labels {labels.shape}; "
                "(n, 28, 28) with (n,) are needed."
            )
        if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise DataError(
                f"{source} holds images of {images.dtype} with labels of {labels.dtype}; "
                "uint8 from 0 to 255 with whole numbers are needed."
            )
        if not 0 <= labels.min() <= labels.max() <= 9:
            raise DataError(f"{source} holds the labels {_distinct(labels)}; 0 to 9 are needed.")
    return Dataset(
        _flatten(train_images),
        train_labels.astype(np.int32),
        _flatten(test_images),
        test_labels.astype(np.int32),
    )


def _flatten(images: NDArray[np.uint8]) -> Floats:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _read_npz(path: Path) -> list[NDArray[np.uint8]]:
    try:
        with path.open("rb") as file:  # NumPy takes what begins otherwise for an array or a pickle
            if file.read(2) != b"PK" or not zipfile.is_zipfile(file):
                raise zipfile.BadZipFile("it is no zip file, or its end is missing")
        with np.load(path, allow_pickle=False) as archive:
            found = archive.files
            for keys in _NPZ_KEYS:
                if set(keys) <= set(found):
                    return [archive[key] for key in keys]
    except _DAMAGED_ARCHIVE as problem:
        raise DataError(
            f"{path} is not a complete archive of arrays: {one_line(problem)}; get {_MNIST_SOURCE}."
        ) from problem
    raise DataError(f"{path} holds {found}; {_NPZ_KEYS[0]} or {_NPZ_KEYS[1]} are needed.")


def _read_idx_files(folder: Path, alternative: str, source: str) -> list[NDArray[np.uint8]]:
    return [
        _read_idx(_existing(folder, (name, f"{name}.gz"), alternative, source))
        for name in _IDX_NAMES
    ]


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an idx file: 0, 0, type 8 (uint8), number of axes, sizes as big-endian int32."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise DataError(f"{path} is not a complete gzip file: {problem}.") from problem
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 * (1 + content[3]):
        raise DataError(f"{path} is not an idx file of bytes: it starts with {content[:4]!r}.")
    start = 4 * (1 + content[3])
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">i4"))
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} promises {shape} bytes but holds {len(content) - start}: it is incomplete."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _existing(folder: Path, names: tuple[str, ...], alternative: str, source: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise DataError(
        f"no {alternative}{' or '.join(names)} in {folder}. Get {source}, put it there, or name "
        "another folder in the environment variable RAINPP_DATA."
    )


# --- CIFAR-10 ------------------------------------------------------------------------------------

PHOTO_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_PHOTO = (32, 32, 3)
_PHOTO_BYTES = math.prod(_PHOTO)
_BINARY_FOLDER = "cifar-10-batches-bin"  # of the unpacked download
_BINARY_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_BINARY_TEST = ("test_batch.bin",)
_PARQUET = ("cifar10_train.parquet", "cifar10_test.parquet")


def cifar10(*, train_rows: int | None = None, test_rows: int | None = None) -> Photos:
    """Photos of ten things, `PHOTO_CLASSES`: 50 000 + 10 000 of 32×32.

    Read from the download's `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, in the
    data folder or in its `cifar-10-batches-bin`; otherwise from `cifar10_train.parquet` and
    `cifar10_test.parquet` with the columns `label` and `image` (JPEG), whose pixels are not quite
    the original ones.

    Parameters
    ----------
    train_rows, test_rows : only the first so many; both forms are in random order.

    Raises
    ------
    DataError : a file is missing or is not of the expected format.
    """
    folder, wanted = data_folder(), (train_rows, test_rows)
    for place in (folder, folder / _BINARY_FOLDER):
        if (place / _BINARY_TRAIN[0]).exists():
            parts = [
                _read_photos(place, names, rows)
                for names, rows in zip((_BINARY_TRAIN, _BINARY_TEST), wanted, strict=True)
            ]
            return _photos(parts, "original")
    train, test = (
        _existing(folder, (name,), f"{_BINARY_TRAIN[0]} or ", _CIFAR_SOURCE) for name in _PARQUET
    )
    parts = [_read_jpegs(path, rows) for path, rows in zip((train, test), wanted, strict=True)]
    return _photos(parts, "re-encoded as JPEG")


def _photos(parts: list[tuple[NDArray[np.uint8], Labels]], form: str) -> Photos:
    (train, train_labels), (test, test_labels) = parts
    return Photos(_in_unit(train), train_labels, _in_unit(test), test_labels, form)


def _in_unit(images: NDArray[np.uint8]) -> Floats:
    return images.astype(np.float32) / np.float32(255)


def _read_photos(
    folder: Path, names: tuple[str, ...], rows: int | None
) -> tuple[NDArray[np.uint8], Labels]:
    """Images and labels of binary files: a byte of label, then red, green and blue, each by row."""
    blocks: list[NDArray[np.uint8]] = []
    found = 0
    for name in names:
        if rows is not None and found >= rows:
            break
        path = _existing(folder, (name,), "", _CIFAR_SOURCE)
        content = np.fromfile(path, np.uint8)
        if content.size == 0 or content.size % (1 + _PHOTO_BYTES):
            raise DataError(
                f"{path} holds {content.size} bytes; rows of {1 + _PHOTO_BYTES} are needed."
            )
        blocks.append(content.reshape(-1, 1 + _PHOTO_BYTES))
        found += len(blocks[-1])
    table = np.concatenate(blocks)[:rows]
    planes = table[:, 1:].reshape(-1, 3, *_PHOTO[:2])
    return planes.transpose(0, 2, 3, 1), _photo_labels(folder, table[:, 0])


def _read_jpegs(path: Path, rows: int | None) -> tuple[NDArray[np.uint8], Labels]:
    try:
        table = pq.read_table(path, columns=["label", "image"]).slice(0, rows)
    except (OSError, pa.ArrowException) as problem:
        raise DataError(
            f"{path} is not a table with the columns label and image: {problem}"
        ) from problem
    images = np.empty((table.num_rows, *_PHOTO), np.uint8)
    for row, content in enumerate(table.column("image").to_pylist()):
        images[row] = _decoded(content, f"{path} row {row}")
    return images, _photo_labels(path, table.column("label").to_numpy())


def _decoded(content: bytes, where: str) -> NDArray[np.uint8]:
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, TypeError) as problem:
        raise DataError(f"{where} is not an image: {problem}") from problem
    if pixels.shape != _PHOTO:
        raise DataError(f"{where} is an image of {pixels.shape}; {_PHOTO} is needed.")
    return pixels


def _photo_labels(source: Path, labels: NDArray[Any]) -> Labels:
    whole = labels.size > 0 and labels.dtype.kind in "iu"
    if not whole or not 0 <= labels.min() <= labels.max() < len(PHOTO_CLASSES):
        raise DataError(f"{source} holds the labels {_distinct(labels)}; 0 to 9 are needed.")
    return labels.astype(np.int32)


def _distinct(labels: NDArray[Any]) -> str:
    """The first ten."""
    return str(sorted({str(label) for label in labels})[:10])


# --- ADULT ---------------------------------------------------------------------------------------

# The order of the UCI files. Underscores, so that SQL needs no quotes.
COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation",
    "relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week",
    "native_country", "income",
)  # fmt: skip
_NUMBERS = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
_HEAVY_TAILED = ("capital_gain", "capital_loss")
# Fixed by adult.names, so that a subset of the rows gets the same columns as all of them.
_CATEGORIES = MappingProxyType({
    "workclass": (
        "Private", "Self-emp-not-inc", "Self-emp-inc", "Federal-gov", "Local-gov", "State-gov",
        "Without-pay", "Never-worked", "?",
    ),
    "marital_status": (
        "Married-civ-spouse", "Divorced", "Never-married", "Separated", "Widowed",
        "Married-spouse-absent", "Married-AF-spouse",
    ),
    "occupation": (
        "Tech-support", "Craft-repair", "Other-service", "Sales", "Exec-managerial",
        "Prof-specialty", "Handlers-cleaners", "Machine-op-inspct", "Adm-clerical",
        "Farming-fishing", "Transport-moving", "Priv-house-serv", "Protective-serv",
        "Armed-Forces", "?",
    ),
    "relationship": (
        "Wife", "Own-child", "Husband", "Not-in-family", "Other-relative", "Unmarried",
    ),
    "race": ("White", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other", "Black"),
    "sex": ("Female", "Male"),
})  # fmt: skip
INCOMES = ("<=50K", ">50K")

ADULT_FEATURES = _NUMBERS + tuple(
    f"{column}={value}" for column, values in _CATEGORIES.items() for value in values
)


def adult() -> AdultDataset:
    """US census of 1994, 32 561 + 16 281 persons, and who earns more than 50K a year.

    49 features, `ADULT_FEATURES`: five numbers (capital gain and loss as log(1 + x), then all
    standardised with the mean and deviation of the training rows) and a 0/1 column for every value
    of workclass, marital status, occupation, relationship, race and sex. With an intercept that is
    the paper's "logistic regression with 50 parameters" (§6.1.1). Education enters as its number of
    years; country and census weight are left out.

    Read from `adult.data` and `adult.test`, with a header line or without one as at UCI.

    Raises
    ------
    DataError : a file is missing, is not of the expected format, or holds an unknown value.
    """
    train, test = _read_adult("adult.data"), _read_adult("adult.test")
    numbers = _adult_numbers(train)
    mean, deviation = numbers.mean(axis=0), numbers.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return AdultDataset(
        train_inputs=_adult_inputs(train, mean, scale),
        train_labels=(train["income"] == INCOMES[1]).to_numpy(np.int32),
        test_inputs=_adult_inputs(test, mean, scale),
        test_labels=(test["income"] == INCOMES[1]).to_numpy(np.int32),
        train_frame=train,
        test_frame=test,
    )


def _read_adult(name: str) -> pd.DataFrame:
    path = _existing(data_folder(), (name,), "", f"{name} from {_ADULT_SOURCE}")
    try:
        with path.open(encoding="utf-8") as lines:
            first = lines.readline()
        # UCI's adult.data starts with a person, its adult.test with "|1x3 Cross validator".
        skipped = 0 if first[:1].isdigit() else 1
        frame = pd.read_csv(
            path, names=list(COLUMNS), header=None, skiprows=skipped, skipinitialspace=True,
            index_col=False, na_filter=False, dtype=dict.fromkeys(_NUMBERS, np.int64),
        )  # fmt: skip
    except (ValueError, OverflowError, OSError) as problem:
        raise _not_adult(path, one_line(problem)) from problem
    if frame.empty:
        raise _not_adult(path, "it holds no person")
    negative = np.flatnonzero((frame[list(_NUMBERS)].to_numpy() < 0).any(axis=1))
    if negative.size:
        raise _not_adult(path, f"row {negative[0]} has a number below zero")
    frame["income"] = frame["income"].astype(str).str.rstrip(".")
    for column, values in {**_CATEGORIES, "income": INCOMES}.items():
        unknown = frame.loc[~frame[column].isin(values), column]
        if len(unknown):
            raise DataError(
                f"{path} row {unknown.index[0]} has {column} {unknown.iloc[0]!r}; "
                f"{list(values)} are known."
            )
    return frame


def _not_adult(path: Path, why: str) -> DataError:
    return DataError(f"{path} is not UCI's Adult: {why}; get {path.name} from {_ADULT_SOURCE}.")


def _adult_numbers(frame: pd.DataFrame) -> NDArray[np.float64]:
    """(n, 5) in the order of `_NUMBERS`; gains and losses on a log scale."""
    return np.column_stack([
        np.log1p(frame[column]) if column in _HEAVY_TAILED else frame[column].to_numpy(np.float64)
        for column in _NUMBERS
    ])  # fmt: skip


def _adult_inputs(
    frame: pd.DataFrame, mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> Floats:
    indicators = [
        frame[column].to_numpy() == value
        for column, values in _CATEGORIES.items()
        for value in values
    ]
    standardised = (_adult_numbers(frame) - mean) / scale
    return np.column_stack([standardised, *indicators]).astype(np.float32)
