"""The code of a page of Markdown, run as a reader would: cell by cell, against an emulator."""

import ast
import inspect
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(
    r"^(?P<fence>```+|:::+)(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Snippet:
    """A block of code: what it is written in, its text, and the line where its text begins."""

    page: Path
    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the block is, where its first line is ``# name.py``."""
        found = re.match(r"# (\S+\.(?:py|toml))\n", self.text)
        return found and found[1]

    async def run(self, names: dict[str, object]) -> None:
        """Run it in these names, as a notebook runs a cell: ``await`` may stand anywhere."""
        # Empty lines before it, so that a traceback names the line of the page.
        text = "\n" * (self.line - 1) + self.text
        code = compile(text, self.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        coming = eval(code, names)
        if inspect.isawaitable(coming):
            await coming


def snippets(page: Path, *kinds: str) -> list[Snippet]:
    """The blocks of a page that are written in one of these."""
    text = page.read_text(encoding="utf-8")
    return [
        Snippet(page, found["kind"], found["text"], text.count("\n", 0, found.start("text")) + 1)
        for found in _FENCE.finditer(text)
        if found["kind"] in kinds
    ]


def missing(blocks: list[Snippet]) -> set[str]:
    """The modules that snippets import and nobody has installed."""
    trees = [ast.parse(block.text) for block in blocks if block.kind == "python"]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {(block.file or "").removesuffix(".py") for block in blocks}
    return {top for top in {item.partition(".")[0] for item in names} - own if not find_spec(top)}
