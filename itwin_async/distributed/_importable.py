"""Names of functions and types, by which the workers import them."""

import importlib
from functools import reduce
from typing import Any


def importable_name(thing: Any) -> str | None:
    """The name by which workers can import it; None if they cannot."""
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    name = f"{module}:{path}"
    try:
        found = None if module in {None, "__main__"} else import_by_name(name)
    except (ImportError, AttributeError):
        return None
    return name if found is not None and found == thing else None


def import_by_name(name: str) -> Any:
    """Import what has this name."""
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))
