"""A version is waited for until its files are there."""

import anyio
import pytest
from downloads import EXTENSION, FILES, NUMBER, download, emulator, is_untouched, itwin
from support import time_out

from itwin_async import (
    ITwinError,
    NotFoundError,
)
from itwin_async.emulator import Delay, Edit

__all__ = ["emulator", "itwin"]  # fixtures


async def test_a_version_without_files_is_reported(emulator, itwin, tmp_path):
    emulator.publish(EXTENSION, "8.0.0", {}, status="Odd", status_message="no\nluck")
    with pytest.raises(ITwinError, match=r"8\.0\.0 has no files: its status is Odd \(no luck\)"):
        await itwin.extensions.download_version(EXTENSION, "8.0.0", tmp_path)
    assert is_untouched(tmp_path)


async def test_a_version_without_an_archive_is_reported(emulator, itwin, tmp_path):
    emulator.faults.add(
        "get_version", Edit(lambda body: body["version"].pop("archiveFile") and None)
    )
    with pytest.raises(ITwinError, match="has no archive"):
        await download(itwin, tmp_path, archive=True)
    assert is_untouched(tmp_path)


async def test_a_version_is_waited_for_whatever_its_status_is_called(emulator, itwin, monkeypatch):
    words = iter(["Unpacking", "Valid", "Failed", "what?", "Odd", "Odd"])
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        word = next(words, None)
        files = {} if word else FILES
        emulator.publish(EXTENSION, "8.0.0", files, status=word or "Whatever")

    monkeypatch.setattr(anyio, "sleep", sleep)
    emulator.publish(EXTENSION, "8.0.0", {}, status="WaitingForUpload")
    version = await itwin.extensions.wait_until_ready(EXTENSION, "8.0.0")
    assert (version.status, len(version.files)) == ("Whatever", 50)
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10]


async def test_a_version_without_a_status_is_ready_when_it_has_files(emulator, itwin):
    emulator.faults.add("get_version", Edit(lambda body: body["version"].pop("status") and None))
    version = await itwin.extensions.wait_until_ready(EXTENSION, NUMBER)
    assert version.status is None


async def test_a_version_that_is_ready_is_looked_at_once(emulator, itwin):
    version = await itwin.extensions.wait_until_ready(EXTENSION, NUMBER)
    assert len(version.files) == 50
    assert emulator.count("get_version") == 1


async def test_files_of_a_version_that_still_waits_for_its_upload_do_not_count(emulator, itwin):
    emulator.publish(EXTENSION, "8.0.0", FILES, status="WaitingForUpload")
    with pytest.raises(TimeoutError):
        await itwin.extensions.wait_until_ready(EXTENSION, "8.0.0", timeout=0.05)


@pytest.mark.slow
async def test_a_version_that_is_not_ready_in_time_is_reported_with_its_status(emulator, itwin):
    emulator.publish(EXTENSION, "8.0.0", {}, status="Failed", status_message="bad zip")
    message = r"8\.0\.0 was not ready in 60 s: its status is Failed \(bad zip\)"
    waiting = itwin.extensions.wait_until_ready(EXTENSION, "8.0.0", timeout=60)
    with pytest.raises(TimeoutError, match=message):
        await time_out(waiting, lambda: emulator.count("get_version"))


async def test_a_platform_that_does_not_answer_in_time_is_reported(emulator, itwin):
    emulator.faults.add("get_version", Delay(60), times=None)
    with pytest.raises(TimeoutError, match="there was no answer"):
        await itwin.extensions.wait_until_ready(EXTENSION, NUMBER, timeout=0.05)


async def test_waiting_for_a_version_that_is_not_there_ends_at_once(emulator, itwin):
    with pytest.raises(NotFoundError, match="VersionNotFound"):
        await itwin.extensions.wait_until_ready(EXTENSION, "99.0.0")
    assert emulator.count("get_version") == 1
