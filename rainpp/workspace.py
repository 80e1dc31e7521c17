"""What the settings point at, opened: the model, its training rows, its index, the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rainpp.adapters.import_path import load_function, load_value
from rainpp.adapters.training_file import Columns, TrainingRows, read_training
from rainpp.database import Database, connect
from rainpp.errors import RainError, SettingsError, named
from rainpp.index.artifact import Index, load
from rainpp.index.build import precompute
from rainpp.index.estimate import Estimate, estimate
from rainpp.index.prepare import default_kinds
from rainpp.index.together import several_processes
from rainpp.inference import Encode, resolve_columns, resolve_table
from rainpp.intervention import Delete, Kind, Relabel, Replace
from rainpp.model import Model
from rainpp.settings import Settings
from rainpp.training_set import TrainingSet
from rainpp.types import Progress, silent

_INTERVENTIONS = {"delete": Delete, "relabel": Relabel}


def open_model(settings: Settings) -> Model:
    """The trained model: what `[model] factory` makes of the path of the checkpoint.

    Raises
    ------
    SettingsError : the factory or the checkpoint is missing, or it returns something else.
    RainError : whatever the factory raises, such as the ArtifactError of `rainpp.load_checkpoint`;
        errors of other kinds come as a SettingsError that names them.
    """
    reference = settings.require("model", "factory")
    path = settings.require_existing("model", "checkpoint")
    factory = _load(settings, reference, "[model] factory", ("checkpoint_path",))
    try:
        model = factory(path.absolute())
    except RainError:
        raise
    except Exception as problem:
        raise SettingsError(f"`[model] factory` {reference!r} fails: {named(problem)}") from problem
    if not isinstance(model, Model):
        raise SettingsError(
            f"`[model] factory` {reference!r} returned a {type(model).__name__}; it must return a "
            "rainpp.Model."
        )
    return model


def read_rows(settings: Settings) -> TrainingRows:
    """The training rows.

    Raises
    ------
    SettingsError : no file is named, or it is not there.
    DataError : it cannot be read.
    """
    training = settings.training
    columns = Columns(training.inputs, training.label, training.id)
    path = settings.require_existing("training", "path")
    return read_training(path, columns, classes=settings.database.classes)


def load_fit(settings: Settings) -> Callable[..., Any]:
    """The user's training, (inputs, labels) -> params.

    Raises
    ------
    SettingsError : it is missing, or cannot be called so.
    """
    return _load(settings, settings.require("model", "fit"), "[model] fit", ("inputs", "labels"))


def load_repairs(settings: Settings) -> list[Replace]:
    """The repairs that `[index] repairs` names, in that order.

    Raises
    ------
    SettingsError : one is not there, or is no rainpp.Replace and no function that returns one.
    """
    return [_load_repair(settings, reference) for reference in settings.index.repairs or ()]


def _load_repair(settings: Settings, reference: str) -> Replace:
    key = "[index] repairs"
    found = load_value(reference, key=key, folder=_folder(settings))
    if callable(found):
        make = _load(settings, reference, key, ())
        try:
            found = make()
        except Exception as problem:
            said = f"`{key}` names {reference!r}, which fails: {named(problem)}"
            raise SettingsError(said) from problem
    if not isinstance(found, Replace):
        raise SettingsError(
            f"`{key}` names {reference!r}, which gives a {type(found).__name__}; it must be a "
            "rainpp.Replace, or a function without arguments that returns one."
        )
    return found


def build_index(settings: Settings, progress: Progress = silent) -> Index:
    """Precompute the index and, if a table is named, the projections of its predictions.

    Raises
    ------
    RainError : everything that can be known to be missing is reported before the long work.
    """
    path = settings.require("index", "path")
    model, rows, options = _request(settings)
    index = precompute(model, rows.inputs, rows.labels, again=False, progress=progress, **options)
    if settings.database.path is not None:
        _register(settings, model, index, progress=progress).close()
        index = replace(load(path, verify=False), seconds=index.seconds)
    return index


def estimate_index(settings: Settings) -> Estimate:
    """What `build_index` will cost, but for the predictions of a table.

    Raises
    ------
    RainError : as `build_index`; the disk has too little room.
    """
    model, rows, options = _request(settings)
    return estimate(model, rows.inputs, rows.labels, **options)


def _request(settings: Settings) -> tuple[Model, TrainingRows, dict[str, Any]]:
    """Model, rows and options of the index that is asked for, after a rehearsal of the rest."""
    path = settings.require("index", "path")
    if several_processes() and settings.database.path is not None:
        raise SettingsError(
            "several processes cannot open one DuckDB file: leave [database] out here, and call "
            "db.materialize(...) once the index is there."
        )
    if settings.database.path is not None:
        settings.require_existing("database", "path")
    model, rows = open_model(settings), read_rows(settings)
    if settings.database.path is not None:
        _rehearse(settings, model, rows)
    options = {
        "k": settings.index.k,
        "interventions": _kinds(settings, model),
        "ids": rows.ids,
        "matmul": settings.index.matmul,
        "storage": settings.index.storage,
        "memory": settings.index.memory,
        "path": path,
    }
    return model, rows, options


def open_database(settings: Settings, *, with_training: bool = False) -> Database:
    """The database with the model and its index registered, ready for queries.

    Parameters
    ----------
    with_training : also read the training rows and load the repairs, which `refine`, `fix` and
        `verify` need.

    Raises
    ------
    RainError : something is missing, damaged, or belongs to another model.
    """
    model = open_model(settings)
    repairs = load_repairs(settings) if with_training else ()
    index = load(settings.require("index", "path"), repairs=repairs)
    rows = read_rows(settings) if with_training else None
    return _register(settings, model, index, rows)


def _kinds(settings: Settings, model: Model) -> list[Kind]:
    names = settings.index.interventions
    plain = [_INTERVENTIONS[name]() for name in names] if names else default_kinds(model)
    return [*plain, *load_repairs(settings)]


def _rehearse(settings: Settings, model: Model, rows: TrainingRows) -> None:
    """Find out what the database would refuse before the long work, not after."""
    name, chosen = settings.model.name, settings.database
    classes = chosen.classes
    TrainingSet.checked(model, rows.inputs, rows.labels, ids=rows.ids)
    if classes is None:
        classes = tuple(range(model.criterion.num_classes(model.output_width(rows.inputs))))
    with connect(settings.require_existing("database", "path")) as database:
        database.register_model(name, model, encode=load_encode(settings), classes=classes)
        if chosen.table is not None and chosen.args is not None:
            resolve_columns(resolve_table(database.connection, chosen.table), chosen.args)


def _register(
    settings: Settings,
    model: Model,
    index: Index,
    rows: TrainingRows | None = None,
    *,
    progress: Progress = silent,
) -> Database:
    name, chosen = settings.model.name, settings.database
    database = connect(settings.require_existing("database", "path"))
    try:
        database.register_model(
            name,
            model,
            index,
            encode=load_encode(settings),
            classes=chosen.classes,
            data=(rows.inputs, rows.labels) if rows else None,
        )
        if chosen.table is not None and chosen.args is not None:
            database.materialize(name, table=chosen.table, args=chosen.args, progress=progress)
    except BaseException:
        database.close()
        raise
    return database


def load_encode(settings: Settings) -> Encode | None:
    """What `[database] encode` names, None where nothing is named.

    Raises
    ------
    SettingsError : it is not there, or cannot be called so.
    """
    if settings.database.encode is None:
        return None
    arguments = settings.database.args or ("column",)
    return _load(settings, settings.database.encode, "[database] encode", tuple(arguments))


def _load(settings: Settings, reference: str, key: str, arguments: tuple[str, ...]) -> Any:
    return load_function(reference, key=key, arguments=arguments, folder=_folder(settings))


def _folder(settings: Settings) -> Path | None:
    return settings.file.parent if settings.file else None
