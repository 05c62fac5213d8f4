"""A kernel in a process of its own, whose cells the tests run one by one."""

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient

PROBE = """
import asyncio as _asyncio, gc as _gc, json as _json, os as _os
_gc.collect()
for _ in range(5):
    await _asyncio.sleep(0)
print(_json.dumps({%s}))
"""
STATE = """
    "files": len(_os.listdir("/proc/self/fd")),
    "tasks": len(_asyncio.all_tasks()),
"""


class ThisPython(AsyncKernelManager):
    """Starts this interpreter, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="", language="python")


class Cells:
    """Runs cells; an error in one is an error here."""

    def __init__(self, client: NotebookClient, errors: IO[str]) -> None:
        self._client = client
        self._errors = errors

    async def run(self, source: str) -> list[Any]:
        """The outputs of one cell."""
        cell = nbformat.v4.new_code_cell(source)
        self._client.nb.cells.append(cell)
        await self._client.async_execute_cell(cell, len(self._client.nb.cells) - 1)
        return cell.outputs

    def shown(self) -> list[Any]:
        """What the last cell has shown so far."""
        return self._client.nb.cells[-1].outputs

    async def probe(self, pairs: str) -> Any:
        """What some ``"name": expression`` are in the kernel, after collecting garbage."""
        outputs = await self.run(PROBE % pairs)
        (text,) = [output.text for output in outputs if output.name == "stdout"]
        return json.loads(text)

    async def interrupt(self) -> None:
        """What the stop button does."""
        await self._client.km.interrupt_kernel()

    def widgets(self, model: str) -> list[Any]:
        """The state of every widget of a kind, as a notebook's page would have it."""
        states = self._client.widget_state.values()
        return [state for state in states if state["_model_name"] == model]

    def complaints(self) -> str:
        """What was written to standard error, by cells or behind their backs."""
        outputs = [output for cell in self._client.nb.cells for output in cell.outputs]
        texts = [output.text for output in outputs if output.get("name") == "stderr"]
        self._errors.seek(0)
        return "".join(texts) + self._errors.read()


@asynccontextmanager
async def kernel(directory: Path, environment: Mapping[str, str]) -> AsyncIterator[Cells]:
    """A fresh kernel in a directory, with these ITWIN_ variables and no others."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("ITWIN_")}
    mine |= environment
    mine |= {"IPYTHONDIR": str(directory / "ipython"), "PYTHONWARNINGS": "always::ResourceWarning"}
    # The paths of sockets are short: a test's own directory may be too deep.
    with (directory / "stderr").open("w+") as errors, TemporaryDirectory() as sockets:
        client = NotebookClient(
            nbformat.v4.new_notebook(),
            km=ThisPython(transport="ipc", ip=f"{sockets}/kernel"),
            timeout=120,
            coalesce_streams=True,
            resources={"metadata": {"path": str(directory)}},
        )
        async with client.async_setup_kernel(env=mine, stderr=errors, cleanup_kc=True):
            yield Cells(client, errors)
