"""Files of a version: fetched without the token, whole, and where they belong."""

import asyncio
import pickle

import pytest
from downloads import (
    EXTENSION,
    FILES,
    NUMBER,
    QUICK,
    download,
    edited,
    emulator,
    itwin,
    on_disk,
    server_of,
)
from support import (
    answer,
    session_at,
)

from itwin_async import (
    InvalidRequestError,
    ITwinSession,
    Limiter,
    ResponseReceived,
    StaticToken,
)
from itwin_async.emulator import Delay, Edit, Slow, Status

__all__ = ["emulator", "itwin"]  # fixtures


# What it gives


async def test_fifty_files_arrive_as_they_are(emulator, itwin, tmp_path):
    found = await download(itwin, tmp_path / "new" / "deep")
    where = tmp_path / "new" / "deep"
    assert on_disk(where) == FILES
    assert found.directory == where
    assert found.number == NUMBER
    assert found.files == tuple(where / name for name in FILES)
    assert found.main == where / "dist/0/part 0.js"
    assert found.archive is None
    assert emulator.count("download") == 50
    assert emulator.count("download_archive") == 0


async def test_the_archive_comes_where_asked_for(emulator, itwin, tmp_path):
    found = await download(itwin, str(tmp_path), archive=True)
    assert found.archive == tmp_path / "archive.zip"
    assert found.archive.read_bytes().startswith(b"PK")
    assert len(found.files) == 50
    assert found.archive not in found.files
    assert emulator.count("download_archive") == 1


async def test_a_file_without_content_is_there(emulator, itwin, tmp_path):
    emulator.publish(EXTENSION, NUMBER, {"a.js": b"a", "empty": b""})
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == {"a.js": b"a", "empty": b""}


async def test_a_version_without_a_main_file_has_none(emulator, itwin, tmp_path):
    emulator.faults.add("get_version", edited(lambda file: file.update(isMain=False)))
    assert (await download(itwin, tmp_path)).main is None


async def test_a_file_without_a_checksum_is_taken_as_it_comes(emulator, itwin, tmp_path):
    emulator.faults.add("get_version", edited(lambda file: file.pop("checksum")))
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES


async def test_a_checksum_may_be_in_capitals(emulator, itwin, tmp_path):
    def shout(file):
        file["checksum"]["sha256"] = file["checksum"]["sha256"].upper()

    emulator.faults.add("get_version", edited(shout))
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES


async def test_files_larger_than_a_read_are_written_piece_by_piece(emulator, itwin, tmp_path):
    large = {"large.bin": bytes(range(256)) * 12_000, "small": b"s"}
    emulator.publish(EXTENSION, NUMBER, large)
    emulator.faults.add("download", Slow(40_000_000, chunk=100_000))
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == large


async def test_a_result_is_one_short_line(itwin, tmp_path):
    found = await download(itwin, tmp_path)
    assert repr(found).startswith(f"DownloadedVersion(number='{NUMBER}', 50 files in '")
    assert len(repr(found)) <= 120
    assert pickle.loads(pickle.dumps(found)) == found


# How it asks


async def test_signed_urls_are_fetched_without_the_token_and_byte_for_byte(
    emulator, itwin, tmp_path
):
    bodies = []
    emulator.faults.add("get_version", Edit(bodies.append))
    await download(itwin, tmp_path, archive=True)
    version = bodies[0]["version"]
    urls = [file["downloadUrl"] for file in [*version["files"], version["archiveFile"]]]
    got = [item for item in emulator.requests if item.operation.startswith("download")]
    assert sorted(f"{emulator.url}{item.target}" for item in got) == sorted(urls)
    assert any("%2F" in url or "%2B" in url for url in urls)
    for item in got:
        assert "Authorization" not in item.headers
        assert item.headers["Accept-Encoding"] == "identity"
        assert item.headers["User-Agent"].startswith("itwin-async/")


async def test_downloads_are_concurrent_within_the_limiter(emulator, tmp_path):
    emulator.publish(EXTENSION, NUMBER, dict(list(FILES.items())[:15]))
    at_once, most = 0, 0
    emulator.faults.add("download", Delay(0.1), times=None)
    options = {"base_url": emulator.url, "limiter": Limiter(5)}
    async with ITwinSession(emulator.credentials, **options) as itwin:
        task = asyncio.create_task(download(itwin, tmp_path))
        while not task.done():
            at_once = sum(r.operation == "download" and r.ended is None for r in emulator.requests)
            most = max(most, at_once)
            assert itwin.limiter.in_use <= 5
            await asyncio.sleep(0.001)
        await task
    assert most == 5


async def test_one_slot_is_enough(emulator, tmp_path):
    emulator.faults.add("download", Status(403), times=1, after=3)
    options = {"base_url": emulator.url, "limiter": Limiter(1), "retry": QUICK}
    async with ITwinSession(emulator.credentials, **options) as itwin, asyncio.timeout(30):
        await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES


async def test_files_do_not_count_in_the_rate_windows_of_the_platform(emulator, tmp_path):
    limiter = Limiter(4, per_minute=5)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, limiter=limiter) as itwin:
        async with asyncio.timeout(30):
            await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES


async def test_files_count_in_the_statistics_and_events(emulator, tmp_path):
    events = []
    options = {"base_url": emulator.url, "on_event": events.append}
    async with ITwinSession(emulator.credentials, **options) as itwin:
        await download(itwin, tmp_path)
        assert itwin.stats.requests == 51
        assert itwin.stats.bytes_received > sum(map(len, FILES.values()))
    names = [event.operation for event in events if isinstance(event, ResponseReceived)]
    assert names.count("GET (signed URL)") == 50


async def test_nothing_is_written_on_the_loop(itwin, tmp_path, blocking_calls):
    # blockbuster, active in every test, ends the download at the first blocking call of ours.
    await download(itwin, tmp_path)


# Secrets


async def test_no_error_event_or_log_shows_the_query_of_a_signed_url(tmp_path, caplog):
    secret = "canary-signature-77aa"
    echo = answer(f"<Error>bad {secret} of q?sig={secret}</Error>".encode(), status="400 X")
    caplog.set_level("DEBUG")
    events = []
    async with (
        server_of(b"x", echo, query=f"?se=1&sig={secret}") as server,
        session_at(server, on_event=events.append, retry=QUICK) as itwin,
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await download(itwin, tmp_path)
    error = caught.value
    shown = [str(error), repr(error), repr(vars(error)), repr(events), caplog.text]
    assert not [text for text in shown if secret in text]
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.operation) == (str(error), "GET (signed URL)")


async def test_a_session_of_a_token_alone_can_download(emulator, tmp_path):
    token = StaticToken(emulator.issue_token())
    async with ITwinSession(token, base_url=emulator.url) as itwin:
        await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES
