"""Progress of downloads."""

import pytest
from large_files import LARGE, download, emulator, on_disk, session, stopped

from itwin_async import (
    DownloadProgress,
)

__all__ = ["emulator"]  # fixtures


async def test_progress_is_reported_in_bytes(emulator, tmp_path):
    seen: list[DownloadProgress] = []
    async with session(emulator) as itwin:
        await download(itwin, tmp_path, on_progress=seen.append)
    size = sum(map(len, LARGE.values()))
    assert seen[-1] == DownloadProgress(2, 2, size, size)
    assert {item.bytes_total for item in seen} <= {None, size}
    done = [item.bytes_done for item in seen]
    assert done == sorted(done)
    assert len(seen) > 3


async def test_progress_of_what_was_resumed_begins_there(emulator, tmp_path):
    await stopped(emulator, tmp_path, resume=True)
    seen: list[DownloadProgress] = []
    async with session(emulator) as itwin:
        await download(itwin, tmp_path, resume=True, on_progress=seen.append)
    assert max(item.bytes_done for item in seen) == sum(map(len, LARGE.values()))


async def test_a_listener_that_raises_changes_nothing_and_is_logged_once(
    emulator, tmp_path, caplog
):
    def fail(progress: DownloadProgress) -> None:
        raise LookupError("of the listener")

    async with session(emulator) as itwin:
        await download(itwin, tmp_path, on_progress=fail)
    assert on_disk(tmp_path) == LARGE
    assert caplog.text.count("on_progress failed") == 1
    assert "of the listener" in caplog.text


async def test_a_listener_that_is_a_coroutine_is_refused(emulator, tmp_path):
    async def listen(progress: DownloadProgress) -> None: ...

    async with session(emulator) as itwin:
        for wrong in (listen, 1):
            with pytest.raises(TypeError, match="plain callable"):
                await download(itwin, tmp_path, on_progress=wrong)
        with pytest.raises(TypeError, match="resume"):
            await download(itwin, tmp_path, resume="yes")
