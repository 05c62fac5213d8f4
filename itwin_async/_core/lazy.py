"""Imports the module of an API when it is first used: together they take as long as aiohttp's."""

import functools
import sys
from importlib import import_module
from types import ModuleType
from typing import Final

_PACKAGE: Final = __name__.partition(".")[0]


@functools.cache
def load_api(name: str) -> ModuleType:
    """The module of an API. What is public in it is an attribute of the package from then on."""
    module = import_module(f"{_PACKAGE}.{name}")
    publish(vars(module))
    return module


def publish(namespace: dict[str, object]) -> None:
    """Give the public names of a module to the package.

    Tracebacks, pickles and documentation name the public place, wherever a class is defined.
    """
    package = sys.modules[_PACKAGE]
    for name in package.__all__:
        value = namespace.get(name)
        if callable(value):
            value.__module__ = _PACKAGE
            setattr(package, name, value)
