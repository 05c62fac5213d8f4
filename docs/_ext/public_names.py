"""Check that every public name is documented, and link private names to their public ones."""

import builtins
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util import logging

logger = logging.getLogger(__name__)
_OFFERED = ("", ".emulator", ".export", ".sync", ".telemetry", ".webhooks", ".distributed")
_FOREIGN = {"pyarrow"}
MODULES = [f"itwin_async{name}" for name in _OFFERED if find_spec(f"itwin_async{name}") is not None]


def names(module: str) -> list[str]:
    """The public names of a module: its ``__all__``, else what it defines."""
    found = vars(import_module(module))
    defined = [
        name
        for name, value in found.items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    return found.get("__all__", defined)


# If two modules have a name, the first one counts.
PUBLIC = {name: f"{module}.{name}" for module in reversed(MODULES) for name in names(module)}


def resolve(
    _app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Link `Pager`, `Pager.ahead` and the private name of either to ``itwin_async.Pager``."""
    if node.get("refdomain") != "py":
        return None
    target: str = node["reftarget"]
    parts = target.split(".")
    # The name itself, or the class before a method.
    at = next((at for at in range(len(parts))[-2:] if parts[at] in PUBLIC), None)
    if at is not None:
        whole = ".".join([PUBLIC[parts[at]], *parts[at + 1 :]])
        domain = env.domains.python_domain
        return domain.resolve_xref(
            env, node["refdoc"], env.app.builder, "obj", whole, node, content
        )
    if hasattr(builtins, parts[0]) or parts[0] in _FOREIGN:
        return content  # plain, without a warning: Python's own, or another library's
    return None


def with_arguments(*event: Any) -> None:
    """Parse a docstring that has an ``Args:`` section; others may have colons of their own."""
    _app, what, name, value, _options, lines = event
    if "Args:" in lines:
        lines[:] = GoogleDocstring(lines, what=what, name=name, obj=value).lines()


def check(_app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of each public name that no page of the reference documents."""
    documented = env.domains.python_domain.objects
    for module in MODULES:
        for name in names(module):
            if f"{module}.{name}" not in documented:
                logger.warning("%s.%s is public, and no page documents it", module, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """See Sphinx."""
    app.connect("autodoc-process-docstring", with_arguments)
    app.connect("missing-reference", resolve)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}
