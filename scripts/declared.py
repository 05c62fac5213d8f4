"""The operations that the client declares, by API and by the method that binds each.

Whatever lists operations or records is made from this: the table, the reference, and the tests
of recorded answers.
"""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import itwin_async
from itwin_async import ITwinSession, Operation

# The groups of a session, such as `itwin.imodels`, by name.
GROUPS: dict[str, type] = {
    name: group
    for name in vars(ITwinSession)
    if inspect.isclass(group := getattr(ITwinSession, name))
}


def modules(group: str) -> Iterator[ModuleType]:
    """The module of an API, with those in it where it is a package."""
    module = importlib.import_module(f"itwin_async.{group}")
    yield module
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        yield importlib.import_module(f"{module.__name__}.{info.name}")


def records(group: str) -> list[str]:
    """The public classes of an API besides its group, in the order in which they are defined."""
    defined = [
        node.name
        for module in modules(group)
        for node in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    public = set(itwin_async.__all__) - {GROUPS[group].__name__}
    return [name for name in defined if name in public]


DECLARED: dict[str, dict[str, Operation[object]]] = {
    group: {
        name.lower(): value
        for module in modules(group)
        for name, value in vars(module).items()
        if isinstance(value, Operation)
    }
    for group in GROUPS
}
OPERATIONS = {name: value for found in DECLARED.values() for name, value in found.items()}
