"""The directive ``layers``: the modules and their layers, drawn from the import contracts."""

import ast
import re
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "itwin_async"
WIDTH, HEIGHT, GAP, LEFT = 720, 30, 12, 34  # of the drawing, a layer, a gap, the margin; pixels

SVG = (
    '<svg class="layers" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'width="{width}" role="img" aria-label="Modules on layers: each may import those below">'
)
STYLE = """
.layers { max-width: 100%; height: auto; font: 13px var(--font-stack--monospace, monospace); }
.layers text { fill: var(--color-foreground-primary, currentColor); text-anchor: middle; }
.layers rect { fill: var(--color-background-secondary, none); stroke: currentColor; rx: 4px; }
.layers .extra rect { stroke-dasharray: 4 3; }
.layers .http rect { stroke: var(--color-brand-primary, currentColor); stroke-width: 2px; }
.layers path { stroke: currentColor; fill: none; }
"""


@dataclass(frozen=True)
class Module:
    """A module as the contract names it."""

    name: str
    extra: bool  # in brackets: it may be missing
    http: bool  # may import aiohttp
    responsibility: str  # the first sentence of its docstring


def responsibility(name: str) -> str | None:
    """The first sentence of a module's docstring; None where there is no such module."""
    for path in (PACKAGE / f"{name}.py", PACKAGE / name / "__init__.py"):
        if path.exists():
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            return " ".join(text.partition("\n\n")[0].split())
    return None


def layers() -> list[list[Module]]:
    """The layers of the contract, the highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(item["layers"] for item in contracts if item["type"] == "layers")
    http = {
        imported.split(".")[1]
        for item in contracts
        if "aiohttp" in item.get("forbidden_modules", ())
        for imported in item["ignore_imports"]
    }
    found: list[list[Module]] = []
    for layer in layers:
        row = []
        for word in re.split(r"\s*[|:]\s*", layer):
            name = word.strip("()")
            sentence = responsibility(name)
            if sentence is not None:
                extra = word.startswith("(")
                row.append(Module(name, extra, name in http, sentence))
        if row:
            found.append(row)
    return found


def drawing(rows: list[list[Module]]) -> str:
    """An SVG with the colours of the page, light or dark."""
    height = len(rows) * (HEIGHT + GAP)
    parts = [
        SVG.format(width=WIDTH, height=height),
        f"<style>{STYLE}</style>",
        f'<path d="M14 6 V{height - GAP - 6} m-5 -8 l5 8 l5 -8"/>',
    ]
    for number, row in enumerate(rows):
        top = number * (HEIGHT + GAP)
        # As wide as their names, so that long and short ones stand side by side.
        sizes = [len(item.name) + 3 for item in row]
        room = (WIDTH - LEFT - GAP * (len(row) - 1) - 1) / sum(sizes)
        left = float(LEFT)
        for item, size in zip(row, sizes, strict=True):
            width = size * room
            kinds = " ".join(kind for kind in ("extra", "http") if getattr(item, kind))
            parts.append(
                f'<g class="{kinds}"><title>{escape(item.responsibility)}</title>'
                f'<rect x="{left:.0f}" y="{top + 1}" width="{width:.0f}" height="{HEIGHT}"/>'
                f'<text x="{left + width / 2:.0f}" y="{top + 21}">{escape(item.name)}</text></g>'
            )
            left += width + GAP
    return "\n".join([*parts, "</svg>"])


class Layers(SphinxDirective):
    """The drawing, and below it each module with its responsibility."""

    def run(self) -> list[nodes.Node]:
        """See docutils."""
        for path in (ROOT / "pyproject.toml", *PACKAGE.glob("**/*.py")):
            self.env.note_dependency(str(path))
        rows = layers()
        table = "\n".join(
            ["| module | what it is for |", "| --- | --- |"]
            + [f"| `{item.name}` | {item.responsibility} |" for row in rows for item in row]
        )
        return [nodes.raw("", drawing(rows), format="html"), *self.parse_text_to_nodes(table)]


def setup(app: Sphinx) -> dict[str, Any]:
    """See Sphinx."""
    app.add_directive("layers", Layers)
    return {"parallel_read_safe": True}
