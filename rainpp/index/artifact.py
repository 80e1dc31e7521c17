"""The index: eigenpairs, projections of every intervention, and known inference tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from rainpp.complaint import Complaint
from rainpp.errors import ArtifactError, DataError, SettingsError, ShapeError
from rainpp.index import store
from rainpp.index.lock import locked
from rainpp.index.projecting import part_of
from rainpp.index.score import Best, Projections, Streamed
from rainpp.intervention import InterventionTable, Replace
from rainpp.intervention.repair import not_at_hand
from rainpp.intervention.table import kind_names
from rainpp.lanczos.influence import query_change
from rainpp.model import Model
from rainpp.ranking import Backing, Ranking
from rainpp.training_set import TrainingSet
from rainpp.types import ClassValue, Progress, PyTree, silent

if TYPE_CHECKING:
    from rainpp.index.device import OnDevice


@dataclass(frozen=True, eq=False)
class Index:
    """What the offline stage leaves behind; arrays are memory-mapped when it came from disk.

    Attributes
    ----------
    manifest : schema, fingerprints, conventions and self-checks.
    arrays : by name; see `rainpp.index.build`.
    path : its directory, or None while it lives in memory only.
    training : the rows it was built from, when they are at hand (`refine`, `verify` need them).
    repairs : the functions behind its repairs, when they are at hand: no file holds them.
    seconds : what the call that built it spent on projecting each family, compilation and repairs
        included. Deletions and relabels share a pass. Empty for an index that was opened: files do
        not depend on how long they took.
    """

    manifest: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    path: Path | None = None
    training: TrainingSet | None = field(default=None, repr=False)
    repairs: tuple[Replace, ...] = field(default=(), repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict[str, float], repr=False)
    _placed: OnDevice | None = field(default=None, repr=False)

    @property
    def k(self) -> int:
        """Number of eigenpairs."""
        return int(self.eigenvalues.shape[0])

    @property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues of the Hessian of J (k,), descending, all positive."""
        return self.arrays["eigenvalues"]

    @property
    def eigenvectors(self) -> np.ndarray:
        """Their unit vectors (k, d)."""
        return self.arrays["eigenvectors"]

    @property
    def num_train(self) -> int:
        """n."""
        return int(self.manifest["num_train"])

    @cached_property
    def projections(self) -> Projections:
        """Projections (N, k) of the interventions, whatever they are stored in.

        An ArtifactError for a users' half.
        """
        self.check_has_rows()
        return Projections.of(self.arrays)

    @cached_property
    def interventions(self) -> InterventionTable:
        """What each row of the projections stands for; an ArtifactError for a users' half."""
        self.check_has_rows()
        return InterventionTable(
            tuple(self.manifest["interventions"]),
            self.arrays["train_ids"],
            self.arrays["labels"],
            int(self.manifest["num_classes"]),
        )

    def rank(
        self,
        vector: ArrayLike,
        *,
        complaints: tuple[Complaint, ...] = (),
        classes: tuple[ClassValue, ...] | None = None,
        backing: Backing | None = None,
    ) -> Ranking:
        """Rank every intervention for a complaint given as its k-vector.

        `vector` is ⟨∇q, vⱼ⟩, signed so that a larger q is better: what `complaint.vector()` gives.
        No database and no model is needed.

        Raises
        ------
        ShapeError : the vector does not have k numbers: it belongs to another index.
        DataError : it holds NaN or infinity.
        ArtifactError : the index is a users' half, without training rows.
        """
        values = self._checked(vector)
        table = self._placed or self.projections
        effects = query_change(table, self.eigenvalues, values, num_rows=self.num_train)
        return Ranking(
            self.interventions,
            effects,
            self.arrays["plausibility"],
            complaints=complaints,
            classes=classes,
            backing=backing,
        )

    def best(self, vector: ArrayLike, count: int = 100) -> Best:
        """The `count` best interventions for a k-vector, without a number for every one of them.

        For indexes larger than memory: the projections are read once, from the first to the last,
        and never held. A training row can come more than once, deleted and relabelled.

        Raises
        ------
        ShapeError, DataError, SettingsError : as `rank`; `count` is no whole number >= 0.
        """
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not whole or count < 0:
            raise SettingsError(f"`count` is {count!r}; it must be a whole number >= 0.")
        values = self._checked(vector)
        streamed = Streamed(self.projections, self.arrays["plausibility"], int(count))
        found: Any = query_change(streamed, self.eigenvalues, values, num_rows=self.num_train)
        return found

    def with_repairs(self, repairs: Sequence[Replace]) -> Index:
        """The same index, with the functions behind its repairs at hand.

        Raises
        ------
        SettingsError : one is none of the repairs this index was built with, or none is a Replace.
        """
        kind_names(repairs)
        listed = list(repairs)
        known = self.interventions.repairs
        for item in listed:
            if item.name not in known:
                raise SettingsError(
                    f"the index has no repair {item.name!r}; it was built with "
                    f"{', '.join(map(repr, known)) or 'none'}."
                )
        return replace(self, repairs=tuple(listed))

    def repairs_in_order(self) -> tuple[Replace, ...]:
        """The functions behind `interventions.repairs`, in their order.

        Raises
        ------
        RainError : one is not at hand.
        """
        by_name = {item.name: item for item in self.repairs}
        missing = [name for name in self.interventions.repairs if name not in by_name]
        if missing:
            raise not_at_hand(missing[0])
        return tuple(by_name[name] for name in self.interventions.repairs)

    def check_has_rows(self) -> None:
        """Refuse an index that has been stripped of its training rows.

        Raises
        ------
        ArtifactError : there is nothing to rank in it.
        """
        if not self.manifest["interventions"]:
            raise ArtifactError(
                "the index is the half for the users of a model: no training row is in it, so "
                "there is nothing to rank. Write the complaint with complaint.save(path) and let "
                "the owner of the whole index rank it: rainpp.read_complaint(path).rank(index)."
            )

    def _checked(self, vector: ArrayLike) -> np.ndarray:
        self.check_has_rows()
        values = _numbers(vector)
        if values is None:
            raise DataError(f"`vector` must hold {self.k} numbers; got {vector!r:.200}.")
        if values.shape != (self.k,):
            raise ShapeError(
                f"`vector` has shape {values.shape}; this index has k = {self.k} eigenpairs."
            )
        if not np.isfinite(values).all():
            raise DataError("`vector` holds NaN or infinity.")
        direction = values / self.eigenvalues
        if not np.abs(direction).max(initial=0.0) < _LARGEST:
            raise DataError(
                f"`vector` holds {float(values[np.abs(direction).argmax()]):g}: scores would be "
                "infinite. It is no gradient of a query; give what complaint.vector() returns."
            )
        return values

    def on_device(self, device: Any = None) -> Index:
        """The same index whose `rank` multiplies on an accelerator; its kernel is compiled now.

        Parameters
        ----------
        device : of `jax.devices()`; the first by default.
        """
        from rainpp.index.device import OnDevice

        return replace(self, _placed=OnDevice(self.projections, device))

    def check_model(self, model: Model) -> None:
        """Refuse a model whose weights are not the ones this index was built for.

        Raises
        ------
        ArtifactError : other parameters, loss or l2.
        """
        if model.fingerprint != self.manifest["model_fingerprint"]:
            raise ArtifactError(
                f"the index {self._name} was built for other weights (or another loss or l2): "
                f"model {model.fingerprint[:12]}, index "
                f"{self.manifest['model_fingerprint'][:12]}. Run rainpp.precompute for this model."
            )

    def with_training(self, training: TrainingSet) -> Index:
        """The same index with its training rows at hand.

        Raises
        ------
        ArtifactError : they are not the rows, in the order, it was built from.
        """
        parts = self.manifest.get("data_parts")
        same = parts_agree(training, parts) if parts else training.fingerprint == self._data
        if not same:
            raise ArtifactError(
                f"the index {self._name} was built from other training data (or another order of "
                f"rows). Give the same inputs and labels, or run rainpp.precompute again."
            )
        return replace(self, training=training)

    def with_arrays(self, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> Index:
        """The same index with more arrays and notes, written to its path if it has one."""
        grown = replace(self, arrays={**self.arrays, **arrays}, manifest={**self.manifest, **notes})
        return grown if self.path is None else save(grown, self.path)

    def append(
        self,
        model: Model,
        inputs: PyTree,
        labels: Any,
        *,
        ids: Sequence[Any] | np.ndarray | None = None,
        weights: Any = None,
        progress: Progress = silent,
    ) -> Index:
        """The same index with more training rows, written to its path if it has one.

        Only the new rows are projected, on the eigenvectors that are there; the curvature and the
        inference tables stay as they are. A warning says when a tenth of the rows or more were
        appended. The new projections are held in memory: append many rows in several calls.

        Parameters
        ----------
        model : the one the index was built for.
        inputs, labels, weights : the new rows, as for `rainpp.precompute` and of the same types.
        ids : needed where the index has ids of its own; else positions go on.

        Raises
        ------
        ArtifactError : another model; another process writes there, or has written since the index
            was opened; the disk refuses. The old index stays.
        DataError, ShapeError, ModelError : the rows cannot be used, or an id is there already.
        """
        from rainpp.index.append import append_rows

        return append_rows(self, model, inputs, labels, ids=ids, weights=weights, progress=progress)

    @property
    def _data(self) -> str:
        return str(self.manifest["data_fingerprint"])

    @property
    def _name(self) -> str:
        return f"`{self.path}`" if self.path else "in memory"

    def __repr__(self) -> str:
        kinds = ", ".join(self.manifest["interventions"]) or "the half for the model's users"
        return (
            f"Index(k={self.k}, {self.num_train:,} training rows, "
            f"{self.manifest['num_params']:,} parameters, {kinds}; {self._name})"
        )


# Larger scores overflow the 32-bit numbers that projections are stored in.
_LARGEST = 1e30


def _numbers(vector: Any) -> np.ndarray | None:
    """As 64-bit floats; None for anything but real numbers."""
    if isinstance(vector, np.ma.MaskedArray):
        return None
    try:
        values = np.asarray(vector)
        return values.astype(np.float64) if values.dtype.kind in "iuf" else None
    except (TypeError, ValueError, OverflowError):
        return None


def parts_agree(training: TrainingSet, parts: Sequence[dict[str, Any]]) -> bool:
    """Whether these are the rows that were appended part by part."""
    if training.num_rows != sum(part["rows"] for part in parts):
        return False
    start = 0
    for part in parts:
        where = slice(start, start + part["rows"])
        if part_of(training, where).fingerprint != part["fingerprint"]:
            return False
        start = where.stop
    return True


def save(index: Index, path: str | Path) -> Index:
    """Write `index` to the directory `path` in one atomic step and open it from there.

    Raises
    ------
    ArtifactError : another process is writing there, or the disk refuses; the old index stays.
    """
    target = store.as_path(path)
    store.check_target(target)
    with locked(target):
        store.write(target, index.manifest, index.arrays)
    return replace(load(path, verify=False), training=index.training)


def load(
    path: str | Path,
    *,
    verify: bool | Literal["on use"] = True,
    repairs: Sequence[Replace] = (),
) -> Index:
    """Open the index at `path`, memory-mapped.

    Parameters
    ----------
    verify : compare every file with its checksum first; that reads the whole index. "on use" opens
        in milliseconds, whatever the size, and compares each array before it is first used: the
        first complaint reads the projections twice, and a damaged file is refused then. False
        compares nothing but the manifest and the sizes and headers of the files.
    repairs : the functions behind the repairs that the index scores: no file holds them, and
        `verify`, `group_effect` and fixes apply them. Ranking does without.

    Raises
    ------
    ArtifactError : there is none, or it is damaged, truncated, or of another version.
    SettingsError : `verify` or `repairs` is something else.
    """
    if not isinstance(verify, bool) and not (isinstance(verify, str) and verify == "on use"):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`verify` is {verify!r}; it must be True, False or 'on use'.")
    found = store.as_path(path)
    manifest, arrays = store.read(found, verify=verify)
    index = Index(manifest, arrays, found)
    return index.with_repairs(repairs) if repairs else index
