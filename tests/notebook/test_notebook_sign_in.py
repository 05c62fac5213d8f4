"""The notebook that signs in, with an emulated person for a browser."""

import asyncio
import json

import pytest
from kernel_sign_in import (
    NOTEBOOK,
    REDIRECT_URIS,
    Addresses,
    cells,
    html_of,
    link_in,
    signing_in,
)
from sign_in_host import visit

from itwin_async.emulator import Emulator


@pytest.fixture
async def emulator():
    async with Emulator(redirect_uris=REDIRECT_URIS, itwins=3, imodels=1, changesets=1) as running:
        yield running


async def test_every_cell_runs_with_a_browser_here_and_elsewhere(emulator, tmp_path):
    addresses = Addresses(tmp_path)
    async with signing_in(emulator, tmp_path, f"{addresses.command} %s") as (running, sources):
        signed_in = asyncio.create_task(running.run(sources["sign-in"]))
        status, _ = await visit(emulator.sign_in_as("reader", await addresses.next()))
        assert status == 200
        assert await signed_in == []  # nothing is shown where a browser opened
        assert "Reader Example" in html_of(await running.run(sources["me"]))
        assert "<table" in html_of(await running.run(sources["itwins"]))
        await running.run(sources["out"])
        assert emulator.count("revocation") == 1
        url = link_in(await running.run(sources["flow"]))
        address = emulator.sign_in_as("owner", url)
        await running.run(f"input = lambda _prompt: {address!r}")  # tests have no keyboard
        assert "Owner Example" in html_of(await running.run(sources["finish"]))
        assert running.complaints() == ""


async def test_a_link_is_shown_where_no_browser_opens(emulator, tmp_path):
    async with signing_in(emulator, tmp_path, "false %s") as (running, sources):
        signed_in = asyncio.create_task(running.run(sources["sign-in"]))
        async with asyncio.timeout(60):
            while not (url := link_in(running.shown())):
                await asyncio.sleep(0.05)
        await visit(emulator.sign_in_as("owner", url))
        await signed_in
        assert "Owner Example" in html_of(await running.run(sources["me"]))
        assert running.complaints() == ""


def test_the_notebook_keeps_no_outputs():
    kept = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in kept)
    sources = cells()
    assert len([*sources["session"].splitlines(), *sources["sign-in"].splitlines()]) == 2
