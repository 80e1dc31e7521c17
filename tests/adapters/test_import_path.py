"""Functions named by "package.module:function"."""

from __future__ import annotations

import sys

import pytest

from rainpp.adapters.import_path import load_function, load_value
from rainpp.errors import SettingsError

SOURCE = """
from collections import OrderedDict
value = 3
def one(checkpoint): return checkpoint
def two(a, b): return a
def many(*columns, scale=1): return columns
"""


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch):
    """A package in the current folder, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "shop_x").mkdir()
    (tmp_path / "shop_x" / "__init__.py").touch()
    (tmp_path / "shop_x" / "models.py").write_text(SOURCE)
    (tmp_path / "shop_x" / "broken.py").write_text("1 / 0")
    (tmp_path / "shop_x" / "needy.py").write_text("import not_installed_here")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop_x"]:
        del sys.modules[name]


def load(reference, *arguments):
    return load_function(reference, key="[model] factory", arguments=arguments or ("checkpoint",))


def test_the_current_folder_is_importable():
    assert load("shop_x.models:one")(5) == 5
    assert load("shop_x.models:many", "red", "green")(1, 2) == (1, 2)
    assert load("collections:OrderedDict", "pairs")


def test_values_are_no_functions():
    assert load_value("shop_x.models:value", key="[index] repairs") == 3
    with pytest.raises(SettingsError, match=r"`\[index\] repairs` is .*has no `three`"):
        load_value("shop_x.models:three", key="[index] repairs")
    with pytest.raises(SettingsError, match=r"`\[index\] repairs` names .*ZeroDivisionError"):
        load_value("shop_x.broken:one", key="[index] repairs")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("shop_y:one", "names the module `shop_y`, but `shop_y` is neither in the folder"),
        ("shop_x.modles:one", "`shop_x.modles` is neither"),
        ("shop_x.broken:one", "`shop_x.broken`, which fails: ZeroDivisionError: division by zero"),
        ("shop_x.needy:one", "which fails: ModuleNotFoundError: No module named 'not_installed"),
        ("shop_x.models:three", "`shop_x.models` has no function `three`"),
        ("shop_x.models:value", "has no function `value`"),
        ("shop_x.models:two", r"cannot be called as two\(checkpoint\): missing .* 'b'"),
    ],
)
def test_what_is_wrong_is_said(reference, words):
    with pytest.raises(SettingsError, match=r"`\[model\] factory`.*" + words):
        load(reference)
