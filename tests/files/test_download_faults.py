"""Faults, bad checksums and URLs that end: fetched again, or nothing is changed."""

import hashlib

import pytest
from downloads import (
    FILES,
    QUICK,
    download,
    edited,
    emulator,
    is_untouched,
    itwin,
    on_disk,
    server_of,
)
from support import (
    head,
    session_at,
)

from itwin_async import (
    DecodeError,
    ForbiddenError,
    LinkError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
)
from itwin_async.emulator import Cut, Edit, Reset, Status
from itwin_async.limits import rate_limiter_of

__all__ = ["emulator", "itwin"]  # fixtures


# Faults of the network


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_connection_is_survived(emulator, itwin, tmp_path, reset):
    emulator.faults.add("download", Cut(2_000, reset=reset), times=3, after=5)
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES
    assert itwin.stats.retries >= 1


@pytest.mark.slow
async def test_a_reset_before_the_answer_and_a_bad_day_of_the_storage_are_survived(
    emulator, itwin, tmp_path
):
    emulator.faults.add("download", Reset(), times=3)
    emulator.faults.add("download", Status(503, headers={"Retry-After": "0"}), times=3)
    emulator.faults.add("download", Status(429, headers={"Retry-After": "0"}), times=3)
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES


async def test_a_connection_that_is_always_cut_ends_the_download(emulator, itwin, tmp_path):
    emulator.faults.add("download", Cut(0), times=None, after=10)
    with pytest.raises(TransportError) as caught:
        await download(itwin, tmp_path / "new")
    assert caught.value.reason == "cut"
    assert caught.value.operation == "GET (signed URL)"
    assert caught.value.request_id
    assert is_untouched(tmp_path)


async def test_a_throttled_storage_does_not_pause_requests_to_the_platform(
    emulator, itwin, tmp_path
):
    emulator.faults.add("download", Status(429, headers={"Retry-After": "9999"}), times=None)
    with pytest.raises(RateLimitError) as caught:
        await download(itwin, tmp_path)
    assert caught.value.retry_after == 9_999
    assert rate_limiter_of(itwin.limiter).paused_for() == 0
    assert itwin.stats.pauses == 0
    assert is_untouched(tmp_path)


async def test_a_file_that_is_gone_ends_the_download(emulator, itwin, tmp_path):
    emulator.faults.add("download", Status(404), after=20)
    with pytest.raises(NotFoundError):
        await download(itwin, tmp_path)
    assert is_untouched(tmp_path)


async def test_a_redirect_is_not_followed(emulator, itwin, tmp_path):
    headers = {"Location": "https://elsewhere.example/f?sig=canary"}
    emulator.faults.add("download", Status(302, headers=headers), times=None)
    with pytest.raises(LinkError, match=r"https://elsewhere\.example") as caught:
        await download(itwin, tmp_path)
    assert "canary" not in str(caught.value)
    assert is_untouched(tmp_path)


# Checksums


async def test_a_file_that_was_damaged_on_its_way_is_fetched_again(emulator, itwin, tmp_path):
    emulator.faults.add("download", Edit(lambda content: content + b"!"), after=7)
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES
    assert emulator.count("download") == 51


async def test_a_file_of_another_checksum_ends_the_download(emulator, itwin, tmp_path):
    wrong = hashlib.sha256(b"other").hexdigest()
    change = edited(lambda file: file["checksum"].update(sha256=wrong))
    emulator.faults.add("get_version", change, times=None)
    with pytest.raises(DecodeError, match=r"dist/0/part 0\.js has another SHA-256"):
        await download(itwin, tmp_path / "new")
    assert is_untouched(tmp_path)


async def test_a_body_that_ends_early_without_a_length_is_noticed(tmp_path):
    content = b"0123456789"
    broken = head("Connection: close") + content[:4]
    async with server_of(content, broken) as server, session_at(server, retry=QUICK) as itwin:
        with pytest.raises(DecodeError, match="another SHA-256"):
            await download(itwin, tmp_path)
    assert is_untouched(tmp_path)


async def test_a_body_shorter_than_its_length_is_noticed(tmp_path):
    content = b"0123456789"
    broken = head("Content-Length: 10", "Connection: close") + content[:4]
    async with server_of(content, broken) as server, session_at(server, retry=QUICK) as itwin:
        with pytest.raises(TransportError) as caught:
            await download(itwin, tmp_path)
        assert caught.value.reason == "cut"
        assert len(server.requests) == 5
    assert is_untouched(tmp_path)


# URLs that end


async def test_urls_that_have_ended_are_renewed_once_for_all_files(emulator, itwin, tmp_path):
    def long_ago(body):
        for file in body["version"]["files"]:
            file["downloadUrlExpiresAt"] = "2020-01-01T00:00:00Z"

    emulator.faults.add("get_version", Edit(long_ago))
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES
    assert emulator.count("get_version") == 2
    assert emulator.count("download") == 50


async def test_urls_that_the_storage_refuses_are_renewed_once_for_all_files(
    emulator, itwin, tmp_path
):
    def spoil(body):
        for file in body["version"]["files"]:
            file["downloadUrl"] += "x"  # the signature fits no more

    emulator.faults.add("get_version", Edit(spoil))
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES
    assert emulator.count("get_version") == 2


async def test_an_url_that_ends_on_the_way_is_renewed(emulator, itwin, tmp_path):
    emulator.faults.add("download", Status(403), after=30)
    await download(itwin, tmp_path, archive=True)
    assert len(on_disk(tmp_path)) == 51
    assert emulator.count("get_version") == 2


async def test_a_clock_that_is_ahead_costs_one_request(emulator, itwin, tmp_path):
    def long_ago(body):
        for file in body["version"]["files"]:
            file["downloadUrlExpiresAt"] = "2020-01-01T00:00:00Z"

    emulator.faults.add("get_version", Edit(long_ago), times=None)
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES
    assert emulator.count("get_version") == 2


async def test_an_url_that_is_refused_again_ends_the_download(emulator, itwin, tmp_path):
    emulator.faults.add("download", Status(403, body="<Code>Expired</Code>"), times=None)
    with pytest.raises(ForbiddenError):
        await download(itwin, tmp_path)
    assert emulator.count("get_version") == 2
    assert is_untouched(tmp_path)


async def test_files_that_changed_meanwhile_end_the_download(emulator, itwin, tmp_path):
    emulator.faults.add("download", Status(403))
    rename = edited(lambda file: file.update(relativePath="other.js"))
    emulator.faults.add("get_version", rename, after=1)
    with pytest.raises(DecodeError, match="changed while they were downloaded"):
        await download(itwin, tmp_path)
    assert is_untouched(tmp_path)


async def test_a_renewal_that_fails_ends_the_download(emulator, itwin, tmp_path):
    emulator.faults.add("download", Status(403))
    emulator.faults.add("get_version", Status(500), times=None, after=1)
    with pytest.raises(ServerError) as caught:
        await download(itwin, tmp_path)
    assert caught.value.operation == "GET /extensions/{extension_id}/versions/{number}"
    assert is_untouched(tmp_path)
