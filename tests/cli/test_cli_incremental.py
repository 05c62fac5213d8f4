"""``extended-data sync`` and ``extended-data follow``: what is new, and how they end."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from terminal import QUICK, environment, run

from itwin_async import ITwinSession
from itwin_async.emulator import Emulator, Status
from itwin_async.sync import ChangeFeed

pytestmark = pytest.mark.slow  # a process for each test


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(itwins=3, imodels=4, changesets=5, extensions=3) as running:
        yield running


@pytest.fixture
async def scope(emulator: Emulator) -> str:
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        found = await itwin.itwins.list_itwins(sub_class="Project").first()
    assert found is not None
    return found.id


@pytest.fixture
def imodels(emulator: Emulator, scope: str) -> list[str]:
    return [item.id for item in emulator._state.imodels.values() if item.itwin_id == scope]


def lines(text: str) -> list[tuple[str, int]]:
    rows = [json.loads(line) for line in text.splitlines()]
    return [(row["imodel_id"], row["changeset_index"]) for row in rows]


@contextlib.asynccontextmanager
async def started(*arguments: str, emulator: Emulator):
    """A process that is under way, and killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *QUICK, "extended-data", *arguments,
        env=environment(emulator.environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> tuple[str, int]:
    text = await asyncio.wait_for(process.stdout.readline(), 60)
    return lines(text.decode())[0]


async def call(emulator: Emulator, *arguments: str):
    return await run("extended-data", *arguments, variables=emulator.environment, command=QUICK)


async def test_sync_adds_what_is_new(emulator, scope, imodels, tmp_path):
    target = str(tmp_path / "changes")
    ended = await call(emulator, "sync", "--itwin", scope, target)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {
        "target": target, "rows": 20, "bad": 0, "imodels": 4, "requests": 5,
    }  # fmt: skip
    emulator.push_changeset(imodels[0], {"n": 1})
    ended = await call(emulator, "sync", "--itwin", scope, target)
    assert json.loads(ended.out)["rows"] == 1
    assert json.loads(ended.out)["requests"] == 2


async def test_sync_every_so_often_until_it_is_stopped(emulator, scope, imodels, tmp_path):
    target = str(tmp_path / "changes")
    arguments = ("sync", target, "--itwin", scope, "--every", "0.1")
    async with started(*arguments, emulator=emulator) as process:
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert first["rows"] == 20
        emulator.push_changeset(imodels[0], {"n": 1})
        second = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert second["rows"] == 1
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (143, b"")
    assert err == b"Run the same command again to go on.\n"
    ended = await call(emulator, "sync", "--itwin", scope, target)
    assert json.loads(ended.out)["rows"] == 0


async def test_sync_every_outlives_an_outage(emulator, scope, tmp_path):
    arguments = ("sync", str(tmp_path / "changes"), "--itwin", scope, "--every", "0.1")
    emulator.faults.add("list_imodels", Status(422))
    async with started(*arguments, emulator=emulator) as process:
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert first["rows"] == 20
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert b"422" in err


async def test_follow_once_prints_what_is_new_since_the_checkpoint(
    emulator, scope, imodels, tmp_path
):
    arguments = ("follow", "--itwin", scope, "--once", "--checkpoint", str(tmp_path / "at"))
    ended = await call(emulator, *arguments)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(lines(ended.out)) == sorted((item, n) for item in imodels for n in range(1, 6))
    assert (await call(emulator, *arguments)).out == ""
    emulator.push_changeset(imodels[1], {"n": 1})
    ended = await call(emulator, *arguments)
    assert lines(ended.out) == [(imodels[1], 6)]
    assert json.loads(ended.out)["data"] == {"n": 1}


async def test_follow_prints_each_line_at_once_and_goes_on_where_it_was_stopped(
    emulator, scope, imodels, tmp_path
):
    arguments = ("follow", "--itwin", scope, "--checkpoint", str(tmp_path / "at"))
    async with started(*arguments, "--every", "0.1", emulator=emulator) as process:
        first = [await line_of(process) for _ in range(20)]
        assert len(set(first)) == 20
        for n in (6, 7):
            emulator.push_changeset(imodels[0], {"n": n})
            assert await line_of(process) == (imodels[0], n)
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out, err) == (143, b"", b"")
    emulator.push_changeset(imodels[0], {"n": 8})
    assert lines((await call(emulator, *arguments, "--once")).out) == [(imodels[0], 8)]


async def test_follow_saves_where_it_is_while_nothing_comes(emulator, scope, imodels, tmp_path):
    stored = tmp_path / "at"
    arguments = ("follow", "--itwin", scope, "--checkpoint", str(stored))

    async def count_unsaved(itwin: ITwinSession) -> int:
        checkpoint = stored.read_text().strip()
        async with ChangeFeed(itwin, itwin_id=scope, checkpoint=checkpoint, every=None) as feed:
            return len([entry async for entry in feed])

    async with (
        started(*arguments, emulator=emulator) as process,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
        asyncio.timeout(60),
    ):
        for _ in range(20):
            await line_of(process)
        while await count_unsaved(itwin):
            await asyncio.sleep(0.05)
        process.kill()
    emulator.push_changeset(imodels[0], {"n": 6})
    assert lines((await call(emulator, *arguments, "--once")).out) == [(imodels[0], 6)]


async def test_follow_new_finds_what_came_after_it_was_killed(emulator, scope, imodels, tmp_path):
    arguments = ("follow", "--itwin", scope, "--new", "--checkpoint", str(tmp_path / "at"))
    async with started(*arguments, "--every", "0.1", emulator=emulator) as process:
        async with asyncio.timeout(60):
            while emulator.count("list_imodels") < 3:
                await asyncio.sleep(0.01)
        process.kill()
    emulator.push_changeset(imodels[2], {"n": 1})
    assert lines((await call(emulator, *arguments, "--once")).out) == [(imodels[2], 6)]


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ("absent/at", "No such file or directory"),
        (".", "Is a directory"),
        ("/dev/full", "No space left on device"),
    ],
)
async def test_follow_prints_nothing_where_it_cannot_save_its_place(
    stored, message, emulator, scope, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    ended = await call(emulator, "follow", "--itwin", scope, "--once", "--checkpoint", stored)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"itwin-async: {stored}: {message}\n"


async def test_follow_new_leaves_out_what_is_there(emulator, scope, imodels):
    arguments = ("follow", "--itwin", scope, "--new", "--every", "0.1")
    async with started(*arguments, emulator=emulator) as process:
        while emulator.count("list_imodels") < 3:
            await asyncio.sleep(0.01)
        emulator.push_changeset(imodels[2], {"n": 1})
        assert await line_of(process) == (imodels[2], 6)


async def test_follow_ends_when_nobody_reads_though_nothing_is_printed(emulator, scope):
    arguments = ("follow", "--itwin", scope, "--every", "3600")
    async with started(*arguments, emulator=emulator) as process:
        for _ in range(20):
            await line_of(process)
        process._transport.get_pipe_transport(1).close()
        assert await asyncio.wait_for(process.wait(), 60) == 141
        assert await process.stderr.read() == b""


async def test_bad_payloads_are_said_and_the_code_is_6(emulator, scope, imodels, tmp_path):
    emulator._state.imodels[imodels[0]].written[2] = "!"
    ended = await call(emulator, "follow", "--imodel", imodels[0], "--once")
    assert ended.code == 6
    assert [index for _, index in lines(ended.out)] == [1, 3, 4, 5]
    assert "its data is not base64" in ended.err
    ended = await call(emulator, "sync", "--imodel", imodels[0], str(tmp_path / "changes"))
    assert ended.code == 6
    assert "bad payloads put aside: 1" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("follow",), "give either --itwin or --imodel"),
        (("sync", "changes"), "give either --itwin or --imodel"),
        (("follow", "--itwin", "a", "--imodel", "b"), "give either"),
        (("follow", "--itwin", "a", "--every", "0"), "--every"),
        (("sync", "changes", "--itwin", "a", "--every", "-1"), "--every"),
        (("follow", "--itwin", "a", "--checkpoint", "{}"), "--checkpoint no-checkpoint: checkp"),
    ],
)
async def test_wrong_usage_is_a_line(emulator, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no-checkpoint").write_text("rubbish\n")
    ended = await call(emulator, *(item.format("no-checkpoint") for item in arguments))
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert (tmp_path / "no-checkpoint").read_text() == "rubbish\n"
    assert not (tmp_path / "changes").exists()


# Sends itself a signal when a line is in the pipe, and its write has not returned yet.
STOPS_IN_A_WRITE = """
import io, os, signal, sys
from itwin_async.cli import main

class Output(io.FileIO):
    lines = 0

    def write(self, data):
        written = super().write(data)
        self.lines += 1
        if self.lines == 7:
            os.kill(os.getpid(), signal.{number})
        return written

sys.stdout = io.TextIOWrapper(io.BufferedWriter(Output(1, "wb", closefd=False)))
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_follow_repeats_no_line_when_it_is_stopped_while_it_prints_one(
    number, emulator, scope, imodels, tmp_path
):
    script = tmp_path / "stops.py"
    script.write_text(STOPS_IN_A_WRITE.format(number=number.name))
    arguments = ("follow", "--itwin", scope, "--checkpoint", str(tmp_path / "at"), "--once")
    stopped = await run(
        "extended-data", *arguments,
        variables=emulator.environment,
        command=[sys.executable, str(script)],
    )  # fmt: skip
    assert (stopped.code, stopped.err) == (128 + number, "")
    emulator.push_changeset(imodels[0], {"n": 6})
    before, after = lines(stopped.out), lines((await call(emulator, *arguments)).out)
    assert len(before) >= 7
    every = [(item, n) for item in imodels for n in range(1, 6)] + [(imodels[0], 6)]
    assert sorted(before + after) == sorted(every)
