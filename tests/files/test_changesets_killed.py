"""Five hundred changeset files survive all that goes wrong at once: each whole, none wrong."""

import asyncio
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
import pytest
from changesets import IMODEL, named, on_disk
from support import until

from itwin_async import ITwinSession
from itwin_async.emulator import Cut, Emulator, Reset, Slow, Status

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]
DOWNLOADS = """
import asyncio, sys
from itwin_async import ITwinSession, Retry

async def main():
    async with ITwinSession.from_env(retry=Retry(12, base=0.01, cap=0.1)) as itwin:
        done = await itwin.imodels.download_changesets(sys.argv[1], sys.argv[2])
    print(done.files, done.bytes, done.existing, len(done.paths))

asyncio.run(main())
"""
# On a disk of a megabyte, and then on one that is large enough.
FULL = """
import asyncio, errno, pathlib, subprocess, sys
from itwin_async import ITwinSession

async def main():
    disk = sys.argv[2]
    directory = pathlib.Path(disk, "changesets")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    async with ITwinSession.from_env() as itwin:
        for _ in range(3):
            try:
                await itwin.imodels.download_changesets(sys.argv[1], directory)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                assert str(directory) in error.filename, error
            else:
                raise AssertionError("there was room")
            sizes = {c.id: c.file_size async for c in itwin.imodels.list_changesets(sys.argv[1])}
            whole = list(directory.glob("*.cs"))
            assert 0 < len(whole) < len(sizes), whole
            assert all(path.stat().st_size == sizes[path.stem] for path in whole)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        done = await itwin.imodels.download_changesets(sys.argv[1], directory)
        assert done.existing == len(whole), done
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = await itwin.imodels.download_changesets(sys.argv[1], directory)
        assert done.existing == done.files, done
    subprocess.run(["cp", "-a", f"{directory}/.", sys.argv[3]], check=True)

asyncio.run(main())
"""
# No file may grow beyond 40,000 bytes.
LIMITED = """
import asyncio, errno, resource, sys
from itwin_async import ITwinSession

async def main():
    async with ITwinSession.from_env() as itwin:
        try:
            await itwin.imodels.download_changesets(sys.argv[1], sys.argv[2])
        except OSError as error:
            assert error.errno == errno.EFBIG and error.filename.endswith(".part"), error
        else:
            raise AssertionError("there was room")

limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
asyncio.run(main())
resource.setrlimit(resource.RLIMIT_FSIZE, limits)  # for what measures the coverage
"""


@pytest.fixture
async def emulator(request: pytest.FixtureRequest) -> AsyncIterator[Emulator]:
    async with Emulator(changesets=getattr(request, "param", 500), imodels=1) as running:
        yield running


async def stored(emulator: Emulator) -> dict[str, bytes]:
    """All files by name, as another client gets them."""
    files: dict[str, bytes] = {}
    async with (
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
        aiohttp.ClientSession() as plain,
    ):
        async for changeset in itwin.imodels.list_changesets(IMODEL, representation=True):
            async with plain.get(changeset.links.download.href) as response:
                files[f"{changeset.id}.cs"] = await response.read()
            assert len(files[f"{changeset.id}.cs"]) == changeset.file_size
    return files


def sometimes(source: random.Random, share: float) -> Callable[..., bool]:
    return lambda request: request.operation == "download" and source.random() < share


def break_often(emulator: Emulator) -> None:
    """Let a third of all requests for files fail, in each way."""
    source = random.Random(7)
    faults = emulator.faults
    faults.add(sometimes(source, 0.1), Cut(20_000), times=None)
    faults.add(sometimes(source, 0.1), Cut(3_000, reset=True), times=None)
    faults.add(sometimes(source, 0.05), Reset(), times=None)
    faults.add(sometimes(source, 0.05), Status(403), times=None)
    faults.add(sometimes(source, 0.03), Status(503, headers={"Retry-After": "0"}), times=None)
    faults.add(sometimes(source, 0.3), Slow(400_000, chunk=4_000), times=None)


def count(directory: Path) -> int:
    """How many files have their names."""
    return len(list(directory.glob("[!.]*.cs")))


@pytest.fixture
async def start(emulator: Emulator) -> AsyncIterator[Start]:
    """Starts a script; none of its processes outlives the test."""
    processes: list[asyncio.subprocess.Process] = []

    async def run(script: str, *arguments: object, before: Sequence[str] = ()):
        process = await asyncio.create_subprocess_exec(
            *before, sys.executable, "-c", script, *map(str, arguments),
            env={**os.environ, **emulator.environment},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> str:
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.slow  # seven processes, and five hundred files
async def test_five_hundred_files_survive_faults_ended_links_and_sigkill(emulator, start, tmp_path):
    files = await stored(emulator)
    directory = tmp_path / "changesets"
    break_often(emulator)

    def check() -> int:
        found = named(directory)
        assert found.items() <= files.items()
        for name, data in on_disk(directory).items():
            if name.endswith(".part"):
                assert files[name[1:-5]].startswith(data), name
        return len(found)

    there = 0
    for kill in range(6):
        process = await start(DOWNLOADS, IMODEL, directory)
        goal = there + 60
        await until(lambda: count(directory) >= goal, 60)  # noqa: B023
        emulator.advance(3_601)  # every link has ended, and the token
        await until(lambda: count(directory) >= goal + 10, 60)  # noqa: B023
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        there = check()
        assert there >= goal, kill
    process = await start(DOWNLOADS, IMODEL, directory)
    size = sum(map(len, files.values()))
    assert await ended(process) == f"500 {size} {there} 500\n"
    assert on_disk(directory) == files  # and nothing hidden
    emulator.faults.clear()
    before = emulator.count("download")
    process = await start(DOWNLOADS, IMODEL, directory)
    assert await ended(process) == f"500 {size} 500 500\n"
    assert emulator.count("download") == before


@pytest.mark.slow  # four processes
async def test_processes_that_share_a_directory_survive_one_that_is_killed(
    emulator, start, tmp_path
):
    files = await stored(emulator)
    before = emulator.count("download")
    emulator.faults.add("download", Slow(2_000_000, chunk=8_000), times=None)
    first, second, third = [await start(DOWNLOADS, IMODEL, tmp_path) for _ in range(3)]
    await until(lambda: count(tmp_path) >= 100, 60)
    first.kill()
    await first.wait()
    await asyncio.gather(ended(second), ended(third))
    assert on_disk(tmp_path) == files
    assert emulator.count("download") - before <= 500 + 8  # what was under way in the killed one


@pytest.mark.slow  # a process with a file system of its own
async def test_a_full_disk_leaves_no_wrong_file_and_is_gone_on_with(emulator, start, tmp_path):
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("without unshare there is no small file system for a test")
    isolated = (unshare, "--user", "--map-root-user", "--mount")
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    copy.mkdir()
    mounts = await asyncio.create_subprocess_exec(
        *isolated, "mount", "-t", "tmpfs", "tmpfs", str(disk)
    )
    if await mounts.wait() != 0:
        pytest.skip("this process may not mount a file system of its own")
    files = await stored(emulator)
    process = await start(FULL, IMODEL, disk, copy, before=isolated)
    assert await ended(process) == ""
    assert on_disk(copy) == files
    assert not list(disk.iterdir())  # it was never on this file system


@pytest.mark.parametrize("emulator", [12], indirect=True)
async def test_a_file_that_may_not_grow_is_named_and_nothing_wrong_is_left(
    emulator, start, tmp_path
):
    files = await stored(emulator)
    assert await ended(await start(LIMITED, IMODEL, tmp_path)) == ""
    found = named(tmp_path)
    assert found.items() < files.items()
    assert all(len(data) <= 40_000 for data in found.values())
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        await itwin.imodels.download_changesets(IMODEL, tmp_path)
    assert on_disk(tmp_path) == files
