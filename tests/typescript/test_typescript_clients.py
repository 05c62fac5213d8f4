"""Bentley's own TypeScript clients do everything that they have against the emulator."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from itwin_async.emulator import Emulator

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / ".typescript" / "node_modules"
PACKAGES = {
    "management": "@itwin/imodels-client-management",
    "authoring": "@itwin/imodels-client-authoring",
}
SECTIONS = re.findall(r"^  async (\w+)\(\) \{", (HERE / "sections.mjs").read_text(), re.MULTILINE)
CALLED: set[str] = set()


@pytest.fixture
async def emulator():
    """Extended data is on every other changeset."""
    async with Emulator(itwins=3, imodels=6, changesets=8, extended_data_every=3) as running:
        yield running


@pytest.mark.parametrize("section", SECTIONS)
async def test_the_official_client(emulator, tmp_path, section):
    given = {
        "base": emulator.url,
        "token": emulator.issue_token(),
        "imodel": "5e19bee0-3aea-4355-a9f0-c6df9989ee7d",
        "itwin": "dc914a84-e0c9-40e2-9d14-faf5ed84147f",
        "directory": str(tmp_path),
    }
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / "sections.mjs"), section, json.dumps(given),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out = (await process.communicate())[0].decode()
    assert process.returncode == 0, out
    CALLED.update(json.loads(out.splitlines()[-1]))


def declared(client: str) -> set[str]:
    """The operations that the type declarations of a client offer."""
    found = set()
    for path in (INSTALLED / PACKAGES[client] / "lib/cjs/operations").rglob("*Operations.d.ts"):
        name = path.name.removesuffix(".d.ts")
        methods = re.findall(r"^    (\w+)\(.*\): ", path.read_text(encoding="utf-8"), re.MULTILINE)
        found |= {f"{client} {name}.{method}" for method in methods if method != "constructor"}
    return found


@pytest.mark.parametrize("client", PACKAGES)
def test_every_operation_of_the_client_was_called(client):
    """After the others, in the order of this file."""
    assert len(declared(client)) >= 10
    assert declared(client) - CALLED == set()
