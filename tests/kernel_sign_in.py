"""The notebook that signs in, in a kernel whose browser is the test's."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path

import nbformat
from kernel import Cells, kernel

from itwin_async.emulator import Emulator

NOTEBOOK = Path(__file__).parents[1] / "examples" / "sign_in.ipynb"
# The notebook's own: a kernel has no other to be given without changing its cells.
REDIRECT_URIS = tuple(f"http://localhost:{port}/signin-callback" for port in (3000, 31234, 41234))


def cells() -> dict[str, str]:
    """The sources of the notebook's cells of code, by their ids."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}


class Addresses:
    """What the kernel's browser was told to open."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "address"
        self.command = directory / "browser"
        new = f"{self._file}.new"  # renamed, so that no half of it is read
        self.command.write_text(f'#!/bin/sh\nprintf %s "$1" > "{new}"\nmv "{new}" "{self._file}"\n')
        self.command.chmod(0o700)

    async def next(self) -> str:
        """The address, once it is opened."""
        async with asyncio.timeout(60):
            while not self._file.exists():
                await asyncio.sleep(0.05)
        address = self._file.read_text()
        self._file.unlink()
        return address


@asynccontextmanager
async def signing_in(
    emulator: Emulator, directory: Path, browser: str
) -> AsyncIterator[tuple[Cells, dict[str, str]]]:
    """A kernel with the notebook's session, in front of this emulator, with this browser."""
    variables = dict(emulator.environment)
    for name in ("ITWIN_CLIENT_ID", "ITWIN_CLIENT_SECRET"):
        del variables[name]  # the person's session needs neither
    async with kernel(directory, variables | {"BROWSER": browser}) as running:
        sources = cells()
        for id in ("platform", "session"):
            await running.run(sources[id])
        yield running, sources


def html_of(outputs: list) -> str:
    return "".join(output.get("data", {}).get("text/html", "") for output in outputs)


def link_in(outputs: list) -> str | None:
    """The address of the link that a cell shows."""
    found = re.search(r'<a href="([^"]+)"[^>]*>Sign in</a>', html_of(outputs))
    return unescape(found[1]) if found else None
