"""What the how-to says about notebooks is true in a kernel."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kernel import STATE, kernel
from nbclient.exceptions import CellExecutionError
from snippets import snippets

from itwin_async.emulator import Emulator

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "notebook.md"
IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(imodels=3, changesets=60, itwins=3) as running:
        yield running


async def test_every_cell_of_the_page_runs(emulator, tmp_path):
    cells = snippets(PAGE, "python", "{code-block}")
    assert len(cells) >= 6
    async with kernel(tmp_path, emulator.environment) as running:
        outputs = [await running.run(cell.text) for cell in cells]
        assert all(outputs)
        shown = await running.probe('"rows": len(rows), "frame": len(frame), "texts": len(texts)')
        assert running.complaints() == ""
    assert shown == {"rows": shown["frame"], "frame": shown["frame"], "texts": 60}
    assert shown["rows"] > 60


async def test_a_cell_that_is_interrupted_closes_its_list_and_leaves_a_session_that_works(
    emulator, tmp_path
):
    # ipykernel cancels a cell at the next turn of its loop, which may be some seconds away.
    begin = """
import asyncio
from itwin_async import ITwinSession
async def turn():
    while True:
        await asyncio.sleep(0.05)
turning = asyncio.create_task(turn())
itwin = ITwinSession.from_env()
account = await itwin.itwins.get_primary_account()
"""
    read = f"""
async for entry in itwin.imodels.list_extended_data({IMODEL!r}, page_size=10).ahead(4):
    pass
"""
    async with kernel(tmp_path, emulator.environment) as running:
        await running.run(begin)
        before = await running.probe(STATE)
        emulator.latency = 60
        reading = asyncio.create_task(running.run(read))
        async with asyncio.timeout(30):
            while not emulator.count("list_extended_data"):
                await asyncio.sleep(0.05)
        await running.interrupt()
        with pytest.raises(CellExecutionError, match=r"KeyboardInterrupt|CancelledError"):
            await reading
        emulator.latency = 0
        await running.run("account = await itwin.itwins.get_primary_account()")
        after = await running.probe(STATE)
        (output,) = await running.run("print(itwin.limiter.in_use, itwin.limiter.waiting)")
        assert output.text == "0 0\n"
        assert "Unclosed" not in running.complaints()
    assert after["tasks"] <= before["tasks"]
    assert after["files"] <= before["files"] + 1


async def test_a_second_loop_is_told_so_in_one_sentence(emulator, tmp_path):
    cell = """
import asyncio
from itwin_async import ITwinSession
itwin = ITwinSession.from_env()
await itwin.itwins.get_primary_account()
def other_thread():
    asyncio.run(itwin.itwins.get_primary_account())
try:
    await asyncio.to_thread(other_thread)
except RuntimeError as error:
    print(error)
"""
    async with kernel(tmp_path, emulator.environment) as running:
        (output,) = await running.run(cell)
    assert output.text == "this ITwinSession belongs to another event loop: make one per loop\n"
