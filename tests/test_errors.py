"""The error tree drawn in the module is the one there is."""

from __future__ import annotations

import builtins
import inspect
import re

import pytest

from rainpp import errors
from rainpp.errors import RainError, RainWarning, UnsupportedQueryError


def classes():
    return {
        name: item
        for name, item in vars(errors).items()
        if inspect.isclass(item) and item.__module__ == errors.__name__
    }


def test_the_drawing_names_every_class_and_no_other():
    drawn = re.findall(r"^ *[│├└─ ]*(\w+(?:Error|Warning|NotConverged))", errors.__doc__, re.M)
    drawn += re.findall(r"── (NotConverged)", errors.__doc__)
    assert set(drawn) == set(classes())


def test_each_class_has_the_built_in_base_of_the_drawing():
    built_in = dict(re.findall(r"(\w+) +\((\w+)\)", errors.__doc__))
    assert built_in
    for name, base in built_in.items():
        assert issubclass(classes()[name], getattr(builtins, base))


@pytest.mark.parametrize("name", sorted(classes()))
def test_everything_can_be_caught_by_one_of_two_bases(name):
    base = RainWarning if name.endswith("Warning") else RainError
    assert issubclass(classes()[name], base)


def test_an_unsupported_query_says_what_why_and_what_instead():
    error = UnsupportedQueryError("median(x)", why="it has no rule", instead="Use avg.")
    assert str(error) == "cannot relax `median(x)`: it has no rule. Use avg."
    assert (error.fragment, error.why, error.instead) == ("median(x)", "it has no rule", "Use avg.")
    with pytest.raises(NotImplementedError):
        raise error
