"""Ways a job lives and dies: killed, eager, blocked, and many lists nested."""

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from raw_pages import IMODEL, QUICK, client, collect, settled
from support import PACKAGE, RawServer, answer, session_at, until

from itwin_async import ITwinSession, Limiter, merged
from itwin_async.emulator import Cut, Delay, Emulator, Reset, Status, Throttle

EXPORT = """
import asyncio, json, os, sys
from itwin_async import ITwinSession, StaticToken

async def main(url, token, imodel, path):
    done, cursor = [], None
    if os.path.exists(path):
        with open(path) as kept:
            done, cursor = json.load(kept)
    async with ITwinSession(StaticToken(token), base_url=url) as itwin:
        pager = itwin.imodels.list_extended_data(imodel, page_size=7)
        items = aiter(pager.resume(cursor) if cursor else pager)
        async for item in items:
            done.append(item.changeset_index)
            with open(path + ".part", "w") as part:
                json.dump([done, items.cursor], part)
            os.replace(path + ".part", path)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
async def test_a_job_that_is_killed_again_and_again_misses_and_doubles_nothing(tmp_path):
    path = tmp_path / "kept.json"

    def done() -> list[int]:
        return json.loads(path.read_text())[0] if path.exists() else []

    async with Emulator(imodels=1, changesets=60) as emulator:
        for _ in range(20):
            before = len(done())
            # Each life sees two pages, then waits for one for ever, and is killed.
            emulator.faults.clear()
            if before < 45:
                emulator.faults.add("list_extended_data", Delay(600), after=2)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", textwrap.dedent(EXPORT),
                emulator.url, emulator.issue_token(), IMODEL, str(path), stderr=subprocess.PIPE,
            )  # fmt: skip
            life = asyncio.create_task(process.communicate())
            try:
                await until(lambda: life.done() or len(done()) > before + 7, 30)  # noqa: B023
            finally:
                if process.returncode is None and before < 45:
                    process.kill()
            _, problem = await life
            assert process.returncode in {0, -signal.SIGKILL}, problem.decode()
            if process.returncode == 0:
                break
            assert len(done()) > before
    assert process.returncode == 0
    assert done() == list(range(1, 61))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize("provider", ["at once", "waits", "credentials"])
async def test_eager_tasks_change_nothing(provider):
    """A task may run to its end before `create_task` has returned it."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

    async def token() -> str:
        if provider == "waits":
            await asyncio.sleep(0.001)
        return issued

    async with Emulator(imodels=4, changesets=50, token_lifetime=3600) as emulator:
        issued = emulator.issue_token()
        for fault in (Status(500), Reset(), Cut(700), Throttle(0.0)):
            emulator.faults.add("list_extended_data", fault, after=3)
        source = emulator.credentials if provider == "credentials" else token
        limiter = Limiter(4)
        async with ITwinSession(
            source, base_url=emulator.url, limiter=limiter, retry=QUICK
        ) as itwin:
            account = await itwin.itwins.get_primary_account()
            assert account.id
            for ahead in (0, 4):
                lists = [itwin.imodels.list_extended_data(IMODEL, page_size=7)] * 6
                got = []
                async with merged([pager.ahead(ahead) for pager in lists], workers=3) as items:
                    async for item in items:
                        got.append(item.changeset_index)
                assert sorted(got) == sorted([*range(1, 51)] * 6)
            # Early ends of all kinds.
            async with merged([pager.ahead(4) for pager in lists]) as items:
                async for _ in items:
                    break
            async for _ in lists[0].ahead(4):
                break
            calls = [asyncio.create_task(itwin.imodels.get_imodel(IMODEL)) for _ in range(20)]
            for call in calls[::2]:
                call.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(entry, asyncio.CancelledError) for entry in ended) == 10
            await settled(limiter)
            assert await collect(lists[0]) == list(range(1, 51))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_eager_tasks_that_are_cancelled_at_any_instant_leave_nothing():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with (
        Emulator(imodels=1, changesets=30) as emulator,
        client(emulator, limiter=Limiter(4)) as itwin,
    ):
        pager = itwin.imodels.list_extended_data(IMODEL, page_size=7).ahead(2)
        for instant in range(60):
            task = asyncio.create_task(collect(pager))
            for _ in range(instant):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await settled(itwin.limiter)
            assert not itwin._executor.lifecycle.scopes
        assert await collect(pager) == list(range(1, 31))


async def test_a_call_that_blocks_the_loop_is_seen(caplog):
    """What fails every test in which a call of ours blocks: here one is made to, and is caught."""

    def blocks(event: object) -> None:
        time.sleep(0.001)

    async with RawServer(answer(PACKAGE)) as server, session_at(server, on_event=blocks) as itwin:
        await itwin.packages.get_package("P")
    assert "on_event failed" in caplog.text
    assert "Blocking call to time.sleep" in caplog.text
