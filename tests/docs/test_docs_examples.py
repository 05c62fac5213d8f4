"""The examples in docstrings run, against an emulator."""

import ast
import asyncio
import secrets
import textwrap
from pathlib import Path
from urllib.parse import urlencode

import pytest
from snippets import ROOT, Snippet

import itwin_async
from itwin_async import ITwinSession, emulator
from itwin_async.emulator import Emulator

MARK = "Example::\n"
NAMES = {
    "asyncio": asyncio,
    "secrets": secrets,
    "urlencode": urlencode,
    "itwin_id": "dc914a84-e0c9-40e2-9d14-faf5ed84147f",
    "imodel_id": "5e19bee0-3aea-4355-a9f0-c6df9989ee7d",
    "extension_id": "41d94bd4-46b8-48e9-a29a-7c7704a7e662",
    "challenge": "c" * 43,
}
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def examples() -> dict[str, Snippet]:
    """Each example, by the name of what it explains."""
    found: dict[str, Snippet] = {}
    for file in sorted((ROOT / "itwin_async").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if text is not None and MARK in text:
                code = textwrap.dedent(text.partition(MARK)[2]).strip()
                name = f"{file.stem}.{getattr(node, 'name', '')}"
                found[name] = Snippet(Path(file), "python", code, node.body[0].lineno)
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_runs(name):
    public = {
        each: getattr(module, each) for module in (emulator, itwin_async) for each in module.__all__
    }
    async with (
        Emulator(imodels=3, changesets=3) as running,
        ITwinSession(running.credentials, base_url=running.url) as itwin,
    ):
        await EXAMPLES[name].run({**public, **NAMES, "emulator": running, "itwin": itwin})


def test_there_are_examples():
    assert {"pager.Pager", "_emulator.Emulator", "plan.add"} <= set(EXAMPLES)
