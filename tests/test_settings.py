"""rainpp.toml and the flags over it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from rainpp import settings as module
from rainpp.errors import SettingsError
from rainpp.settings import Settings, read_settings

EVERY_KEY = """
[model]
factory = "shop.models:clothing"
checkpoint = "model.ckpt"
name = "predict_item"
fit = "shop.models:fit"
[training]
path = "train.parquet"
inputs = ["red", "green"]
label = "kind"
id = "row"
[index]
path = "/indexes/clothing.rain"
k = 30
interventions = ["delete"]
repairs = ["shop.repairs:CLEAR", "shop.repairs:spell"]
[database]
path = "shop.duckdb"
table = "photos"
args = "image"
encode = "shop.models:encode"
classes = ["shirt", "shoe"]
"""


@pytest.fixture
def file(tmp_path):
    """Writes rainpp.toml and gives its path."""

    def write(text):
        path = tmp_path / "rainpp.toml"
        path.write_text(text)
        return path

    return write


def test_every_key(file, tmp_path):
    found = read_settings(file(EVERY_KEY))
    assert found.model.factory == "shop.models:clothing"
    assert found.model.checkpoint == tmp_path / "model.ckpt"
    assert found.model.fit == "shop.models:fit"
    assert found.index.repairs == ("shop.repairs:CLEAR", "shop.repairs:spell")
    assert found.training.inputs == ("red", "green")
    assert found.index.path == Path("/indexes/clothing.rain")
    assert (found.index.k, found.index.interventions) == (30, ("delete",))
    assert found.database.args == ("image",)
    assert found.database.classes == ("shirt", "shoe")


def test_every_field_has_a_rule_and_the_docstring_is_an_example(file):
    sections = [item for item in fields(Settings) if item.name != "file"]
    assert [section.name for section in sections] == list(module._RULES)
    for section in sections:
        known = [item.name for item in fields(getattr(Settings(), section.name))]
        assert list(module._RULES[section.name]) == known
    assert module.__doc__ is not None
    example = module.__doc__.partition("::\n")[2].partition("Every line")[0]
    read_settings(file(example))


def test_no_file_means_defaults_unless_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_settings() == Settings()
    assert Settings().index.k == "auto"
    with pytest.raises(SettingsError, match=r"cannot read the settings `other.toml`: No such file"):
        read_settings(Path("other.toml"))
    (tmp_path / "rainpp.toml").write_text('[model]\nname = "guess"')
    assert read_settings().model.name == "guess"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model", "not valid TOML"),
        ("[modle]\n", r"has \[modle\]; it may have \[model\], \[training\], \[index\], \[data"),
        ("model = 3", r"has model = 3; write a section \[model\]"),
        ("[index]\nkk = 3", r"`\[index\] kk` in .*; \[index\] may have path, k, interventions"),
        ("[index]\nk = 0", r"`\[index\] k` in .*rainpp.toml` is 0; .*\"auto\" or a whole number"),
        ("[index]\nk = true", "is True"),
        ("[index]\nk = 2.5", "is 2.5"),
        ('[index]\ninterventions = ["delete", "repair"]', "'repair'.*'delete', 'relabel'"),
        ('[index]\ninterventions = ["delete", "delete"]', "different words"),
        ('[model]\nfactory = "shop.models"', '"package.module:function"'),
        ('[model]\nfit = "train.py"', '"package.module:function"'),
        ('[index]\nrepairs = ["shop:CLEAR", "clear"]', "a list of different strings like"),
        ('[index]\nrepairs = ["shop:CLEAR", "shop:CLEAR"]', "a list of different strings like"),
        ("[index]\nrepairs = []", "a list of different strings like"),
        ('[model]\nname = "drop table"', "a plain SQL identifier"),
        ("[training]\npath = 3", "is 3; it must be a path"),
        ("[training]\ninputs = []", "a name or a list of names"),
        ("[database]\nclasses = [[1]]", "a list of strings or numbers"),
        ("[database]\ntable = ''", "not empty"),
    ],
)
def test_wrong_lines_are_named(file, text, words):
    with pytest.raises(SettingsError, match=words):
        read_settings(file(text))


def test_flags_override_the_file(file):
    found = read_settings(file(EVERY_KEY)).override("index", path="here.rain", k="7")
    assert found.index.path == Path("here.rain")
    assert found.index.k == 7
    assert found.override("index", path=None, interventions=[]) == found
    with pytest.raises(SettingsError, match=r"`\[index\] k` in the flag is 'many'"):
        found.override("index", k="many")


def test_what_a_command_needs(file, tmp_path):
    found = read_settings(file(EVERY_KEY))
    with pytest.raises(SettingsError, match=r"`\[database\] path` is `.*shop.duckdb`, where there"):
        found.require_existing("database", "path")
    (tmp_path / "shop.duckdb").touch()
    assert found.require_existing("database", "path") == tmp_path / "shop.duckdb"
    with pytest.raises(SettingsError, match=r"`\[model\] factory` is missing: write a string like"):
        Settings().require("model", "factory")


def test_a_key_in_the_wrong_section_is_told_its_own(tmp_path):
    path = tmp_path / "rainpp.toml"
    path.write_text('[model]\nclasses = ["no", "yes"]\n')
    with pytest.raises(SettingsError, match=r"belongs under \[database\]"):
        read_settings(path)
