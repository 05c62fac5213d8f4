"""How the documentation is built: ``make docs``."""

import sys
from importlib.util import find_spec
from pathlib import Path

from itwin_async import __version__

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "scripts")]

project = "itwin_async"
version = release = __version__
html_title = f"itwin_async {version}"
html_theme = "furo"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "declared_pages", "layers", "public_names"]
exclude_patterns = ["_build", "_ext"]
# An extra's page of the reference is there as soon as its module is.
exclude_patterns += [
    f"reference/{name}.md"
    for name in ("distributed", "export", "telemetry")
    if find_spec(f"itwin_async.{name}") is None
]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
default_role = "py:obj"  # in docstrings a name in single backticks is a link
python_use_unqualified_type_names = True

nitpick_ignore_regex = [
    # Documented elsewhere; links there would need an inventory from the network.
    (
        r"py:.*",
        r"(aiohttp|asyncio|collections|contextlib|datetime|distributed|msgspec|multidict|opentelemetry|os|pathlib|pyarrow|types|typing|uuid)\..*",
    ),
    # Made and used inside, and seen from outside only as an argument's or a result's type.
    (
        r"py:class",
        r"itwin_async\._core\.operation\.Request|itwin_async\.environment\.SessionOptions",
    ),
    # The type variables of generic classes and functions.
    (r"py:class", r"(.*\.)?[A-Z](_co)?"),
]
