"""Killed at any moment and started again, an export is the same set: nothing twice or missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from exports import records_of
from killing import Killed, Killer, kill_after

from itwin_async import ITwinSession
from itwin_async.emulator import Emulator
from itwin_async.export import _job as job
from itwin_async.export import _lists as lists
from itwin_async.export import export_extended_data

ROWS = 3 * 24


def rows_of(output: Path) -> list[tuple[str, int]]:
    return sorted((row["imodel_id"], row["changeset_index"]) for row in records_of(output))


@pytest.fixture
async def platform(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[ITwinSession, list[str]]]:
    monkeypatch.setattr(job, "STORE_ROWS", 20)
    monkeypatch.setattr(lists, "PIECE_ROWS", 10)
    async with (
        Emulator(imodels=3, changesets=24) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        imodels = [
            imodel.id
            async for item in itwin.itwins.list_itwins()
            async for imodel in itwin.imodels.list_imodels(item.id)
        ]
        yield itwin, imodels


@pytest.mark.parametrize(
    ("name", "since"),
    [
        pytest.param("a.jsonl", None, marks=pytest.mark.slow),
        pytest.param("a.jsonl", 10, marks=pytest.mark.slow),
        ("a.parquet", 10),
    ],
)
async def test_killed_at_each_thing_it_does_to_a_file(name, since, platform, tmp_path, monkeypatch):
    itwin, imodels = platform
    expected = [(imodel_id, index) for imodel_id in sorted(imodels) for index in range(1, 25)]
    home, output = tmp_path / "work", tmp_path / "work" / name
    home.mkdir()
    if since is not None:  # added to an output that holds a part of it
        await export_extended_data(itwin, imodels[:1], output, page_size=10)
        expected = [row for row in expected if row[0] == imodels[0] or row[1] > since]
    before = tmp_path / "before"
    shutil.copytree(home, before)
    killer = Killer(monkeypatch)
    kills = 0
    # Halves: before the act, and right behind it.
    for half in range(2_000):
        killer.at = None
        shutil.rmtree(home)
        shutil.copytree(before, home)
        killer.done, killer.at = 0, half / 2 + 0.25
        try:
            await export_extended_data(itwin, imodels, output, page_size=10, since=since)
        except Killed:
            kills += 1
        else:
            break
        finally:
            killer.at = None
        if output.exists() and since is None:
            assert rows_of(output) == expected
        exported = await export_extended_data(itwin, imodels, output, page_size=10, since=since)
        assert rows_of(output) == expected, f"killed at {half / 2}"
        assert exported.rows == len(expected)
        assert not (home / f"{name}.parts").exists()
    assert kills > 30


CHILD = """
import asyncio, sys
from itwin_async import ITwinSession
from itwin_async.export import _job, export_extended_data

_job.STORE_SECONDS = 0.05

async def main():
    async with ITwinSession.from_env() as itwin:
        async def ids():
            async for listed in itwin.itwins.list_itwins():
                async for imodel in itwin.imodels.list_imodels(listed.id):
                    yield imodel.id

        def report(progress):
            print(progress.rows, flush=True)

        await export_extended_data(itwin, ids(), sys.argv[1], page_size=20, on_progress=report)

asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["a.jsonl", pytest.param("a.parquet", marks=pytest.mark.slow)])
async def test_killed_for_real_again_and_again(name, tmp_path):
    output = tmp_path / name
    async with Emulator(imodels=20, changesets=150, latency=0.005) as emulator:
        environment = {
            **os.environ,
            "ITWIN_BASE_URL": emulator.url,
            "ITWIN_TOKEN_URL": emulator.token_url,
            "ITWIN_CLIENT_ID": emulator.credentials.client_id,
            "ITWIN_CLIENT_SECRET": emulator.credentials.client_secret,
        }
        kills = 0
        for lines in (8, 9, 5, 11, 7, 10_000):
            process = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(output)],
                env=environment, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            ended = await anyio.to_thread.run_sync(kill_after, process, lines)
            kills += not ended
        assert kills >= 3
        async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
            expected = [
                (imodel.id, index)
                async for item in itwin.itwins.list_itwins()
                async for imodel in itwin.imodels.list_imodels(item.id)
                for index in range(1, 151)
            ]
    assert rows_of(output) == sorted(expected)
    assert not (tmp_path / f"{name}.parts").exists()
