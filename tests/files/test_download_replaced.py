"""Downloads that replace files are all or nothing, also when they are killed."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from large_files import LARGE, download, emulator, on_disk, session
from support import (
    Running,
    cancelled_at_each_await,
)

from itwin_async._files.staging import StagingDirectory

__all__ = ["emulator"]  # fixtures


OLD = {"dist/large.bin": b"old", "index.js": b"old too", "mine": b"mine"}


def write(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


@pytest.mark.parametrize("resume", [False, True])
async def test_a_replacing_download_that_is_cancelled_as_files_get_their_names_puts_them_back(
    emulator, tmp_path, monkeypatch, cancel_kind, resume
):
    rename_all = StagingDirectory.rename_all

    def renamed(staging):
        loop.call_soon_threadsafe(running.cancel)
        return rename_all(staging)

    loop = asyncio.get_running_loop()
    write(tmp_path, OLD)
    monkeypatch.setattr(StagingDirectory, "rename_all", renamed)
    async with session(emulator) as itwin:
        running = Running(cancel_kind, download(itwin, tmp_path, overwrite=True, resume=resume))
        await asyncio.wait([running.task])
        if cancel_kind == "level" and not running.task.cancelled():  # no await was left for it
            assert on_disk(tmp_path) == {**OLD, **LARGE}
            return
        left = on_disk(tmp_path)
        assert {name: left[name] for name in OLD} == OLD
        assert (len(left) == len(OLD)) is not resume
        monkeypatch.undo()
        await download(itwin, tmp_path, overwrite=True, resume=resume)
    assert emulator.count("download") == (2 if resume else 4)
    assert on_disk(tmp_path) == {**OLD, **LARGE}


async def test_a_replacing_download_that_is_cancelled_at_any_await_is_all_or_nothing(
    emulator, tmp_path, cancel_kind
):
    async with session(emulator) as itwin:
        write(tmp_path, OLD)

        async def check(number: int) -> None:
            assert on_disk(tmp_path) in (OLD, {**OLD, **LARGE}), number
            write(tmp_path, OLD)

        awaits, _ = await cancelled_at_each_await(
            cancel_kind, lambda: download(itwin, tmp_path, overwrite=True), check, step=3
        )
    assert awaits > 10
    assert on_disk(tmp_path) == {**OLD, **LARGE}


class Killed(BaseException):
    """As if the process were gone: nothing is cleaned up."""


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
@pytest.mark.parametrize("resume", [True, False])
def test_what_was_there_is_put_back_after_a_kill_at_any_step(tmp_path, monkeypatch, resume, links):
    new = {"index.js": b"new 1", "dist/large.bin": b"new 2", "dist/deep/more.js": b"new 3"}
    steps = 0

    def counted(step):
        def run(*args, **options):
            nonlocal steps
            steps -= 1
            if steps == 0:
                raise Killed
            return step(*args, **options)

        return run

    def no_links(*_):
        raise PermissionError

    def staging() -> StagingDirectory:
        key = "0" * 16 if resume else None
        return StagingDirectory(tmp_path, list(new), overwrite=True, key=key)

    def renamed(kill_at: int) -> None:
        nonlocal steps
        steps = 0
        directory = staging()
        directory.open()
        for path, content in new.items():
            part = directory.part(path)
            part.restart()
            part.append(content)
        steps = kill_at
        try:
            directory.rename_all()
            directory.commit()
        finally:
            directory._close(remove=False)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", counted(os.link) if links else no_links)
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "mkdir", counted(Path.mkdir))
        for kill_at in range(1, 100):
            write(tmp_path, OLD)
            try:
                renamed(kill_at)
            except Killed:
                steps = 0
                again = staging()
                again.open()
                again.rollback()
                left = on_disk(tmp_path)
                assert {name: left[name] for name in OLD if name in left} == OLD, kill_at
                assert not set(new) - set(OLD) & set(left), kill_at
            else:
                break
    assert kill_at > 6
    assert on_disk(tmp_path) == {**OLD, **new}


KILLED = """
import os, signal, sys
from pathlib import Path
from itwin_async._files.staging import StagingDirectory

names = ["index.js", "dist/large.bin"]
staging = StagingDirectory(Path(sys.argv[1]), names, overwrite=True, key=None)
staging.open()
for name in names:
    part = staging.part(name)
    part.restart()
    part.append(b"half")
replace, count = Path.replace, 0
def counted(self, target):
    global count
    count += 1
    replace(self, target)
    if count == 2:  # the journal, and the first file
        os.kill(os.getpid(), signal.SIGKILL)
Path.replace = counted
staging.rename_all()
"""


async def test_the_next_download_puts_back_what_a_killed_process_replaced(emulator, tmp_path):
    write(tmp_path, OLD)
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(tmp_path))
    assert await killed.wait() == -signal.SIGKILL
    assert on_disk(tmp_path)["index.js"] == b"half"
    async with session(emulator) as itwin:
        with pytest.raises(FileExistsError):
            await download(itwin, tmp_path)
        assert on_disk(tmp_path) == OLD
        await download(itwin, tmp_path, overwrite=True)
    assert on_disk(tmp_path) == {**OLD, **LARGE}


async def test_what_somebody_put_there_after_a_kill_stays(emulator, tmp_path):
    write(tmp_path, OLD)
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    await asyncio.to_thread(subprocess.run, command, check=False)
    (tmp_path / "index.js").unlink()
    (tmp_path / "index.js").write_bytes(b"repaired by hand")
    async with session(emulator) as itwin:
        with pytest.raises(FileExistsError):
            await download(itwin, tmp_path)
    left = on_disk(tmp_path)
    assert left["index.js"] == b"repaired by hand"
    assert OLD["index.js"] in left.values()  # kept beside it


async def test_a_directory_that_only_looks_like_ours_is_left_alone(emulator, tmp_path):
    theirs = {".itwin-notes.part/journal": b"dear diary", ".itwin-old.part/done": b"yes"}
    write(tmp_path, theirs)
    async with session(emulator) as itwin:
        await download(itwin, tmp_path)
    left = on_disk(tmp_path)
    assert left == {**theirs, **LARGE}
