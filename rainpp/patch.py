"""A fix as a file: which rows, what is changed from what to what, and why. Reviewed, then applied.

Parquet with the columns id, intervention, old, new and reason, and one JSON object of metadata:
which data it is for, and the classes in the order of the model's outputs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rainpp.errors import ArtifactError, DataError
from rainpp.index.store import as_path
from rainpp.intervention import Intervention, InterventionTable, Replace
from rainpp.intervention.applying import apply_interventions
from rainpp.intervention.table import WORDS
from rainpp.loss import find_loss
from rainpp.training_set import TrainingSet
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
        RainError : a repair is not among `repairs`.
        """
        array = np.asarray(labels)
        numbers = np.arange(len(array)) if ids is None else np.asarray(ids)
        training = TrainingSet(inputs, array, numbers, np.ones(len(array)))
        same = TrainingSet(inputs, self._as_trained(array), numbers, training.weights)
        self._check_data(same)
        return apply_interventions(training, self._interventions(numbers), repairs)

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
        """
        target = check_writable(path)
        about = {"kind": _KIND, "schema": _SCHEMA, "classes": self.classes, "data": self.data}
        table = pa.Table.from_pandas(self.frame[list(COLUMNS)], preserve_index=False)
        table = table.replace_schema_metadata({_KEY: json.dumps(about).encode()})
        partial = target.with_name(f".{target.name}.partial")
        try:
            pq.write_table(table, partial)
            partial.replace(target)
        except OSError as problem:
            partial.unlink(missing_ok=True)
            raise ArtifactError(
                f"cannot write the patch `{target}`: {problem.strerror or problem}."
            ) from problem
        return target

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
        for item in self.frame.to_dict(orient="records"):
            row, kind, new = item["id"], str(item["intervention"]), item["new"]
            if row not in place:
                raise DataError(f"the patch names row {row!r}, which is not among the ids.")
            if kind not in WORDS:
                raise DataError(
                    f"the patch has the intervention {kind!r}; it may have {', '.join(WORDS)}."
                )
            if kind == "relabel" and new not in number:
                raise DataError(
                    f"the patch gives row {row!r} the label {new!r}; the classes are "
                    f"{', '.join(self.classes)}."
                )
            detail = {"delete": None, "replace": new}.get(kind, number.get(str(new)))
            if row in seen:
                raise DataError(f"the patch changes row {row!r} twice; keep one of them.")
            seen.add(row)
            found.append(Intervention(place[row], row, kind, detail))
        return found

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        counts = self.frame["intervention"].value_counts()
        return f"Patch({', '.join(f'{n} x {kind}' for kind, n in counts.items()) or 'empty'})"


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
    try:
        table = pq.read_table(source)
    except (OSError, pa.ArrowException) as problem:
        raise ArtifactError(f"cannot read the patch `{source}`: {problem}.") from None
    about = _read_about(table, source)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ArtifactError(f"`{source}` has no column `{missing[0]}`, so it is no patch.")
    frame = table.select(list(COLUMNS)).to_pandas()
    unknown = set(frame["intervention"]) - set(WORDS)
    if unknown:
        raise ArtifactError(
            f"`{source}` holds the intervention {min(map(str, unknown))!r}; it may hold "
            f"{', '.join(WORDS)}."
        )
    return Patch(frame, tuple(map(str, about["classes"])), str(about.get("data")))


def _read_about(table: pa.Table, source: Path) -> dict[str, Any]:
    try:
        about: Any = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
    except ValueError:
        about = None
    fields = about if isinstance(about, dict) else {}
    if fields.get("kind") != _KIND or not isinstance(fields.get("classes"), list):
        raise ArtifactError(f"`{source}` is Parquet, but no patch that rainpp wrote.")
    if about.get("schema") != _SCHEMA:
        raise ArtifactError(
            f"`{source}` has schema {about.get('schema')!r}; this version reads {_SCHEMA}."
        )
    return about
