"""A download that is cancelled or whose session closes leaves nothing."""

import asyncio
import shutil

import anyio
import pytest
from downloads import EXTENSION, FILES, NUMBER, download, emulator, is_untouched, itwin, on_disk
from support import (
    Running,
    cancelled_at_each_await,
    until,
)

from itwin_async._files.staging import StagingDirectory
from itwin_async.emulator import Delay, Status

__all__ = ["emulator", "itwin"]  # fixtures


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_download_that_is_cancelled_at_any_await_leaves_nothing(
    cancel_kind, when, emulator, itwin, tmp_path
):
    files = dict(list(FILES.items())[:4])
    emulator.publish(EXTENSION, NUMBER, files)

    new = tmp_path / "new"

    async def check(number: int) -> None:
        if new.exists():  # it was done when the cancellation came
            assert on_disk(new) == files, number
            shutil.rmtree(new)
        assert is_untouched(tmp_path), number

    awaits, _ = await cancelled_at_each_await(
        cancel_kind, lambda: download(itwin, new), check, when=when
    )
    assert awaits > 10
    assert on_disk(new) == files


async def test_a_download_that_is_cancelled_while_files_arrive_leaves_nothing(
    cancel_kind, emulator, itwin, tmp_path
):
    emulator.faults.add("download", Delay(60), times=None, after=30)
    task = Running(cancel_kind, download(itwin, tmp_path / "new"))
    await until(lambda: sum(r.ended is not None for r in emulator.requests) >= 31)
    assert not is_untouched(tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_untouched(tmp_path)


async def test_a_download_that_is_cancelled_as_files_get_their_names_is_whole_or_nothing(
    cancel_kind, itwin, tmp_path, monkeypatch
):
    rename_all = StagingDirectory.rename_all

    def renamed(staging):
        loop.call_soon_threadsafe(task.cancel)
        return rename_all(staging)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(StagingDirectory, "rename_all", renamed)
    task = Running(cancel_kind, download(itwin, tmp_path / "new"))
    try:
        await task
    except asyncio.CancelledError:
        assert is_untouched(tmp_path)
    else:  # anyio's comes at the next await, and there is none
        assert cancel_kind == "level"
        assert on_disk(tmp_path / "new") == FILES


async def test_an_anyio_deadline_ends_a_download_and_leaves_nothing(emulator, itwin, tmp_path):
    emulator.faults.add("download", Delay(60), times=None, after=30)
    with anyio.move_on_after(60) as scope:
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await until(lambda: emulator.count("download") > 30)
                scope.cancel()

            group.start_soon(stop)
            await download(itwin, tmp_path / "new")
    assert scope.cancelled_caught
    assert is_untouched(tmp_path)


async def test_closing_the_session_ends_a_download(emulator, itwin, tmp_path):
    emulator.faults.add("download", Delay(60), times=None, after=30)
    task = asyncio.create_task(download(itwin, tmp_path / "new"))
    await until(lambda: emulator.count("download") > 30)
    await itwin.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await task
    assert is_untouched(tmp_path)


async def test_closing_the_session_ends_a_download_that_waits_to_try_again(
    emulator, itwin, tmp_path
):
    emulator.faults.add("download", Status(503, headers={"Retry-After": "60"}), times=None)
    task = asyncio.create_task(download(itwin, tmp_path / "new"))
    await until(lambda: itwin.stats.retries >= 16)
    await itwin.aclose()
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="closed"):
            await task
    assert is_untouched(tmp_path)
