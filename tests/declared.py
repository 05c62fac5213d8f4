"""The operations that the client declares, by API and by the method that binds each."""

import importlib
import pkgutil

import itwin_async
from itwin_async import Operation

GROUPS = {
    "extensions": itwin_async.Extensions,
    "imodels": itwin_async.IModels,
    "packages": itwin_async.Packages,
    "itwins": itwin_async.ITwins,
}


def modules(group):
    """The module of an API, with those in it where it is a package."""
    module = importlib.import_module(f"itwin_async.{group}")
    yield module
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        yield importlib.import_module(f"{module.__name__}.{info.name}")


DECLARED: dict[str, dict[str, Operation]] = {
    group: {
        name.lower(): value
        for module in modules(group)
        for name, value in vars(module).items()
        if isinstance(value, Operation)
    }
    for group in GROUPS
}
OPERATIONS = {name: value for found in DECLARED.values() for name, value in found.items()}
