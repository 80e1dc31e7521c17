"""A fix as a file: which rows, what is changed from what to what, and why. Reviewed, then applied.

Parquet with the columns id, intervention, old, new and reason, and one JSON object of metadata:
which data it is for, and the classes in the order of the model's outputs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rainpp.errors import ArtifactError, DataError, SettingsError, ShapeError, one_line
from rainpp.index.store import as_path
from rainpp.intervention import Intervention, InterventionTable, Replace
from rainpp.intervention.applying import apply_interventions
from rainpp.intervention.table import WORDS
from rainpp.loss import find_loss
from rainpp.model import check_inputs
from rainpp.training_set import TrainingSet, as_array, check_ids
from rainpp.types import PyTree

if TYPE_CHECKING:
    from rainpp.ranking import Ranking

COLUMNS = ("id", "intervention", "old", "new", "reason")
_KIND, _SCHEMA, _KEY = "rainpp patch", 1, b"rainpp"


@dataclass(frozen=True, eq=False)
class Patch:
    """Changes of training rows, to be read by a person and applied to the rows they were made for.

    Attributes
    ----------
    frame : id, intervention ("delete", "relabel" or "replace"), old and new (labels as text, the
        name of the repair), reason; a row of it can be deleted before it is applied.
    classes : the text of each class, in the order of the model's outputs; none for a regression.
    data : fingerprint of the training rows.
    """

    frame: pd.DataFrame = field(repr=False)
    classes: tuple[str, ...]
    data: str

    def apply(
        self,
        inputs: PyTree,
        labels: Any,
        *,
        ids: Sequence[Any] | np.ndarray | None = None,
        repairs: Sequence[Replace] = (),
    ) -> TrainingSet:
        """New training rows with the patch applied; those given are not touched.

        Parameters
        ----------
        inputs, labels, ids : the rows the patch was made for.
        repairs : the functions behind replacements.

        Raises
        ------
        DataError : these are other rows, or one the patch names is not there, or named twice.
        ShapeError : inputs, labels and ids have different numbers of rows.
        SettingsError : `repairs` holds something else.
        RainError : a repair is not among `repairs`.
        """
        num_rows = check_inputs(inputs)
        array = as_array(labels)
        if array.ndim == 0 or array.shape[0] != num_rows:
            raise ShapeError(
                f"`labels` has shape {array.shape} but `inputs` has {num_rows} rows; they must be "
                "aligned by row."
            )
        numbers = check_ids(ids, num_rows)
        training = TrainingSet(inputs, array, numbers, np.ones(num_rows))
        same = TrainingSet(inputs, self._as_trained(array), numbers, training.weights)
        self._check_data(same)
        return apply_interventions(training, self._interventions(numbers), _checked(repairs))

    def positions(self, training: TrainingSet, table: InterventionTable) -> np.ndarray:
        """Where the changes stand among the interventions of an index, in the patch's order.

        Parameters
        ----------
        training : the rows the patch was made for.

        Raises
        ------
        DataError : as `apply`; the patch is empty, or gives a row a label that it has.
        SettingsError : the index has no such family of changes.
        """
        self._check_data(training)
        found = self._interventions(training.ids)
        if not found:
            raise DataError("the patch is empty: there is nothing to apply.")
        return table.positions_of(found)

    def save(self, path: str | Path) -> Path:
        """Write it as Parquet.

        Raises
        ------
        ArtifactError : the path cannot be used, or the disk refuses.
        DataError : the frame lacks a column, or one holds values of several types.
        """
        target, frame = check_writable(path), self._checked_frame()
        about = {"kind": _KIND, "schema": _SCHEMA, "classes": self.classes, "data": self.data}
        try:
            table = pa.Table.from_pandas(frame[list(COLUMNS)], preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError) as problem:
            raise DataError(
                f"the patch cannot be written: {one_line(problem)}. Every column of its frame "
                "holds values of one type."
            ) from problem
        table = table.replace_schema_metadata({_KEY: json.dumps(about).encode()})
        partial = target.with_name(f".{target.name}.partial")
        try:
            pq.write_table(table, partial)
            partial.replace(target)
        except OSError as problem:
            raise ArtifactError(
                f"cannot write the patch `{target}`: {problem.strerror or problem}."
            ) from problem
        finally:  # also when it is interrupted
            partial.unlink(missing_ok=True)
        return target

    def _checked_frame(self) -> pd.DataFrame:
        """The frame, with the columns of a patch."""
        if not isinstance(self.frame, pd.DataFrame):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                f"the `frame` of the patch is a {type(self.frame).__name__}; it must be a pandas "
                f"DataFrame with the columns {', '.join(COLUMNS)}."
            )
        for name in COLUMNS:
            count = self.frame.columns.tolist().count(name)
            if count != 1:
                raise DataError(
                    f"the `frame` of the patch has {count or 'no'} column{'s' * (count > 1)} "
                    f"`{name}`; it must have each of {', '.join(COLUMNS)} once."
                )
        return self.frame

    def _as_trained(self, labels: np.ndarray) -> np.ndarray:
        """Labels in the type that a model is trained on; a patch without classes has numbers."""
        if self.classes:
            return find_loss("cross_entropy").check_labels(labels, width=len(self.classes))
        width = labels.shape[1] if labels.ndim == 2 else 1
        return find_loss("squared_error").check_labels(labels, width=width)

    def _check_data(self, training: TrainingSet) -> None:
        if training.fingerprint != self.data:
            raise DataError(
                f"the patch was made for other training rows ({self.data[:12]}) than these "
                f"({training.fingerprint[:12]}): other inputs, labels or order. It was not applied."
            )

    def _interventions(self, ids: np.ndarray) -> list[Intervention]:
        place = {value: row for row, value in enumerate(ids.tolist())}
        number = {text: label for label, text in enumerate(self.classes)}
        found: list[Intervention] = []
        seen: set[Any] = set()
        for item in self._checked_frame().to_dict(orient="records"):
            row = _known_row(item["id"], place)
            kind, new = str(item["intervention"]), item["new"]
            if kind not in WORDS:
                raise DataError(
                    f"the patch has the intervention {kind!r}; it may have {', '.join(WORDS)}."
                )
            if kind == "relabel" and (not isinstance(new, str) or new not in number):
                raise DataError(
                    f"the patch gives row {row!r} the label {new!r}; the classes are "
                    f"{', '.join(self.classes)}, as text."
                )
            if kind == "replace" and not isinstance(new, str):
                raise DataError(
                    f"the patch gives row {row!r} the repair {new!r}; it must be the name of one."
                )
            detail = number[new] if kind == "relabel" else new if kind == "replace" else None
            if row in seen:
                raise DataError(f"the patch changes row {row!r} twice; keep one of them.")
            seen.add(row)
            found.append(Intervention(place[row], row, kind, detail))
        return found

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        counts = self._checked_frame()["intervention"].value_counts()
        return f"Patch({', '.join(f'{n} x {kind}' for kind, n in counts.items()) or 'empty'})"


def _known_row(value: Any, place: Mapping[Any, int]) -> int | str:
    """The id that a patch names, as the training rows have it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # what other tools make of a column that could lack some
    # True equals 1, and would be taken for it.
    if not isinstance(value, int | str) or isinstance(value, bool) or value not in place:
        raise DataError(f"the patch names row {value!r}, which is not among the ids.")
    return value


def _checked(repairs: Any) -> Sequence[Replace]:
    listed = list(repairs) if isinstance(repairs, Sequence) else [repairs]
    if not all(isinstance(item, Replace) for item in listed):
        raise SettingsError(
            f"`repairs` is {repairs!r}; give a list of rainpp.Replace(name, repair)."
        )
    return listed


def patch_of(ranking: Ranking, training: TrainingSet, positions: np.ndarray) -> Patch:
    """The interventions at some positions of a ranking, each with its reason."""
    table = ranking.interventions
    # Labels of a regression are numbers, in columns: there are no classes to name.
    numbered = training.labels.ndim > 1
    names = [] if numbered else [str(name) for name in ranking.classes or range(table.num_classes)]
    about = "; ".join(map(str, ranking.complaints))
    rows: list[dict[str, Any]] = []
    for position in positions:
        item, effect = table[int(position)], float(ranking.effects[position])
        plausible = float(ranking.plausibility[position])
        label = training.labels[item.row]
        old = ", ".join(f"{value:.6g}" for value in label) if numbered else names[int(label)]
        new = {"delete": "", "replace": str(item.detail)}.get(item.kind)
        rows.append(
            {
                "id": item.train_id,
                "intervention": item.kind,
                "old": old,
                "new": names[int(item.detail or 0)] if new is None else new,
                "reason": f"{effect:+.3g} for: {about} (plausibility {plausible:.2f})",
            }
        )
    return Patch(pd.DataFrame(rows, columns=list(COLUMNS)), tuple(names), training.fingerprint)


def check_writable(path: str | Path) -> Path:
    """Where a patch can be written, looked at before the work that leads to it.

    Raises
    ------
    ArtifactError : the path cannot be used, it is a folder, or its folder is not there or takes no
        files.
    """
    target = as_path(path, of="the file of a patch")
    folder = target.absolute().parent
    if target.is_dir():
        raise ArtifactError(f"cannot write the patch `{target}`: it is a folder.")
    if not folder.is_dir():
        raise ArtifactError(f"cannot write the patch `{target}`: there is no folder `{folder}`.")
    if not os.access(folder, os.W_OK):
        raise ArtifactError(f"cannot write the patch `{target}`: `{folder}` takes no files.")
    return target


def read_patch(path: str | Path) -> Patch:
    """Read a patch that `Patch.save` wrote; nothing in it is run.

    Raises
    ------
    ArtifactError : it is missing, damaged, or no patch.
    """
    source = as_path(path, of="the file of a patch")
    if not source.exists():
        raise ArtifactError(f"cannot read the patch `{source}`: there is no such file.")
    if not source.is_file():  # Arrow would read all files of a folder as one
        raise ArtifactError(f"cannot read the patch `{source}`: it is no regular file.")
    try:
        # A folder called id=3 says nothing about the column.
        table = pq.ParquetFile(source).read()
    except (OSError, pa.ArrowException) as problem:
        raise ArtifactError(f"cannot read the patch `{source}`: {one_line(problem)}.") from None
    about = _read_about(table, source)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ArtifactError(f"`{source}` has no column `{missing[0]}`, so it is no patch.")
    try:
        frame = table.select(list(COLUMNS)).to_pandas()
    except (KeyError, ValueError, pa.ArrowException) as problem:
        raise ArtifactError(f"cannot read the patch `{source}`: {one_line(problem)}.") from None
    unknown = {str(word) for word in frame["intervention"]} - set(WORDS)
    if unknown:
        raise ArtifactError(
            f"`{source}` holds the intervention {min(unknown)!r}; it may hold {', '.join(WORDS)}."
        )
    return Patch(frame, tuple(about["classes"]), about["data"])


def _read_about(table: pa.Table, source: Path) -> dict[str, Any]:
    try:
        about: Any = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
    except (ValueError, RecursionError):
        about = None
    fields = about if isinstance(about, dict) else {}
    classes, data = fields.get("classes"), fields.get("data")
    told = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if fields.get("kind") != _KIND or not told or not isinstance(data, str):
        raise ArtifactError(
            f"`{source}` is Parquet, but no patch that rainpp wrote, or another program wrote it "
            "anew and left out what it is for: take lines out with rainpp.read_patch(...).frame, "
            "dataclasses.replace and save."
        )
    if type(about.get("schema")) is not int or about["schema"] != _SCHEMA:
        raise ArtifactError(
            f"`{source}` has schema {about.get('schema')!r}; this version reads {_SCHEMA}."
        )
    return about
