"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import energeia

MODULES = [m.name for m in pkgutil.walk_packages(energeia.__path__, "energeia.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(bool(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name)))
    assert count >= 8
