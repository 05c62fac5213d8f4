"""Downloads go on where they were."""

import asyncio
import hashlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable

import pytest
from large_files import (
    CONTENT,
    EXTENSION,
    LARGE,
    NUMBER,
    QUICK,
    TAG,
    download,
    emulator,
    on_disk,
    ranges,
    session,
    stopped,
)
from support import (
    RawServer,
    Running,
    answer,
    head,
    session_at,
    until,
)

from itwin_async import (
    InvalidRequestError,
    Retry,
    TransportError,
)
from itwin_async.emulator import Cut, Delay, Slow, Status

__all__ = ["emulator"]  # fixtures


class Storage(RawServer):
    """A version of one file, whose storage answers as the test says: each in its turn."""

    def __init__(self, *steps: Callable[..., bytes], checksum: bool = True) -> None:
        super().__init__(self._serve)
        self.steps = list(steps)
        self.checksum = checksum
        self.asked: list[dict[str, str]] = []  # the headers of requests for the file

    async def _serve(self, connection) -> None:
        got = await connection.request()
        if got.target.startswith("/blob"):
            step = self.steps[min(len(self.asked), len(self.steps) - 1)]
            self.asked.append(got.headers)
            await connection.send(step(got.headers))
            return
        file = {"downloadUrl": f"{self.url}/blob?sig=x", "relativePath": "a.bin"}
        if self.checksum:
            file["checksum"] = {"sha256": hashlib.sha256(CONTENT).hexdigest()}
        body = json.dumps({"version": {"number": NUMBER, "files": [file]}}).encode()
        await connection.send(answer(body, "Connection: close"))

    @property
    def ranges(self) -> list[str | None]:
        """What was asked for."""
        return [headers.get("range") for headers in self.asked]


def whole(headers, *, at: int | None = None, tag: str | None = TAG, more: tuple[str, ...] = ()):
    """The file from its first byte; cut at a place."""
    named = [] if tag is None else [f"ETag: {tag}"]
    length = f"Content-Length: {len(CONTENT)}"
    return head(length, "Connection: close", *named, *more) + CONTENT[:at]


def cut(at: int, **options) -> Callable[..., bytes]:
    return lambda headers: whole(headers, at=at, **options)


def rest(
    headers,
    *,
    shift: int = 0,
    total: object = len(CONTENT),
    tag: str = TAG,
    at: int | None = None,
    spoil: bool = False,
) -> bytes:
    """What was asked for of the file, if a range was."""
    match = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    if match is None:
        return whole(headers)
    start = int(match[1])
    body = CONTENT[start + shift :]
    content_range = f"Content-Range: bytes {start + shift}-{len(CONTENT) - 1}/{total}"
    lines = [f"Content-Length: {len(body)}", "Connection: close", f"ETag: {tag}", content_range]
    body = body[::-1] if spoil else body
    return head(*lines, status="206 Partial Content") + body[:at]


def refuse_range(headers) -> bytes:
    return answer(b"", f"Content-Range: bytes */{len(CONTENT)}", status="416 No")


async def fetched(storage: Storage, directory, **options) -> bytes:
    """What a download of its file gives."""
    options.setdefault("retry", QUICK)
    async with storage, session_at(storage, **options) as itwin:
        await download(itwin, directory)
    assert [path.name for path in directory.iterdir()] == ["a.bin"]
    return (directory / "a.bin").read_bytes()


async def test_a_file_that_was_cut_goes_on_where_it_was(tmp_path):
    storage = Storage(cut(10_000), lambda h: rest(h, at=20_000), rest)
    assert await fetched(storage, tmp_path) == CONTENT
    assert storage.ranges == [None, "bytes=10000-", "bytes=30000-"]
    assert [headers.get("if-range") for headers in storage.asked] == [None, TAG, TAG]


async def test_progress_goes_on_beyond_the_attempts(tmp_path):
    storage = Storage(cut(4_000), *[lambda h: rest(h, at=4_000)] * 8, rest)
    assert await fetched(storage, tmp_path, retry=Retry(2, base=0.0)) == CONTENT
    assert len(storage.asked) == 10


async def test_a_byte_at_a_time_is_no_progress(tmp_path):
    storage = Storage(cut(4_000), lambda h: rest(h, at=1))
    with pytest.raises(TransportError, match="cut"):
        await fetched(storage, tmp_path, retry=Retry(3, base=0.0))
    assert 3 <= len(storage.asked) <= 5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("checksum", [True, False])
async def test_a_storage_without_ranges_begins_again(tmp_path, checksum):
    storage = Storage(cut(10_000), whole, checksum=checksum)
    assert await fetched(storage, tmp_path) == CONTENT
    assert storage.ranges == [None, "bytes=10000-"]


async def test_a_range_that_is_refused_starts_over(tmp_path):
    storage = Storage(cut(10_000), refuse_range, whole)
    assert await fetched(storage, tmp_path) == CONTENT
    assert storage.ranges == [None, "bytes=10000-", None]


async def test_a_range_that_is_refused_each_time_ends_after_the_attempts(tmp_path):
    storage = Storage(*[cut(10_000), refuse_range] * 10)
    with pytest.raises(TransportError, match="cut"):
        await fetched(storage, tmp_path, retry=Retry(3, base=0.0))
    assert len(storage.asked) <= 8


async def test_a_refusal_of_a_range_that_nobody_asked_for_is_an_error(tmp_path):
    storage = Storage(refuse_range)
    with pytest.raises(Exception, match="416") as caught:
        await fetched(storage, tmp_path)
    assert isinstance(caught.value, InvalidRequestError | Exception)
    assert len(storage.asked) == 1


WRONG = {
    "another place": lambda h: rest(h, shift=8),
    "another size": lambda h: rest(h, total=len(CONTENT) + 1),
    "no number": lambda h: rest(h, total="many"),
    "another entity": lambda h: rest(h, tag='"new"'),
    "no range": lambda h: whole(h).replace(b"200 OK", b"206 Partial Content"),
}


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_part_that_does_not_fit_is_refused_and_starts_over(tmp_path, wrong, checksum):
    storage = Storage(cut(10_000), wrong, rest, checksum=checksum)
    assert await fetched(storage, tmp_path) == CONTENT
    assert storage.ranges == [None, "bytes=10000-", None]


async def test_a_part_where_nobody_asked_for_one_is_refused(tmp_path):
    storage = Storage(WRONG["no range"])
    with pytest.raises(TransportError, match="another range") as caught:
        await fetched(storage, tmp_path)
    assert caught.value.reason == "malformed"


async def test_the_checksum_decides_over_what_was_put_together(tmp_path):
    storage = Storage(cut(10_000), lambda h: rest(h, spoil=True), rest)
    assert await fetched(storage, tmp_path) == CONTENT
    assert storage.ranges == [None, "bytes=10000-", None]


@pytest.mark.parametrize("tag", [None, 'W/"abc"', "abc", '"a"b"'])
async def test_without_a_strong_entity_tag_the_checksum_alone_vouches(tmp_path, tag):
    storage = Storage(cut(10_000, tag=tag), rest)
    assert await fetched(storage, tmp_path) == CONTENT
    assert storage.ranges == [None, "bytes=10000-"]
    assert "if-range" not in storage.asked[1]


async def test_with_neither_entity_tag_nor_checksum_a_file_begins_again(tmp_path):
    storage = Storage(cut(10_000, tag=None), rest, checksum=False)
    assert await fetched(storage, tmp_path) == CONTENT
    assert storage.ranges == [None, None]


async def test_a_body_that_is_packed_all_the_same_is_not_gone_on_with(tmp_path):
    import gzip  # noqa: PLC0415 - of this test alone

    packed = gzip.compress(CONTENT)
    lines = (f"Content-Length: {len(packed)}", "Content-Encoding: gzip", f"ETag: {TAG}")
    broken = head(*lines, "Connection: close") + packed[: len(packed) // 2]
    storage = Storage(lambda _: broken, rest)
    assert await fetched(storage, tmp_path) == CONTENT
    assert storage.ranges == [None, None]


async def test_max_body_holds_for_a_file_and_not_for_each_of_its_answers(tmp_path):
    storage = Storage(cut(30_000), rest)
    with pytest.raises(TransportError, match="max_body, 35000 bytes") as caught:
        await fetched(storage, tmp_path, max_body=35_000)
    assert caught.value.reason == "too large"
    assert not list(tmp_path.iterdir())


async def test_a_renewed_url_goes_on_with_what_is_there(emulator, tmp_path):
    emulator.publish(EXTENSION, NUMBER, {"a.bin": CONTENT})
    emulator.faults.add("download", Cut(10_000))
    emulator.faults.add("download", Status(403))
    async with session(emulator) as itwin:
        await download(itwin, tmp_path)
        assert itwin.stats.bytes_received < len(CONTENT) + 10_000
    assert on_disk(tmp_path) == {"a.bin": CONTENT}
    assert set(ranges(emulator)) == {"bytes=10000-"}
    assert emulator.count("get_version") == 2


async def test_another_session_goes_on_with_what_an_earlier_one_left(emulator, tmp_path):
    await stopped(emulator, tmp_path, resume=True)
    assert [path.name[:7] for path in tmp_path.iterdir()] == [".itwin-"]
    async with session(emulator) as itwin:
        found = await download(itwin, tmp_path, resume=True)
    assert on_disk(tmp_path) == LARGE
    assert len(found.files) == 2
    assert ranges(emulator) == ["bytes=150000-"]


async def test_what_is_not_to_be_resumed_leaves_nothing(emulator, tmp_path):
    await stopped(emulator, tmp_path / "new")
    assert not list(tmp_path.iterdir())


async def test_whole_files_are_not_fetched_again(emulator, tmp_path, cancel_kind):
    emulator.faults.add("download", Delay(60), after=1)
    async with session(emulator) as itwin:
        running = Running(cancel_kind, download(itwin, tmp_path, resume=True))
        await until(lambda: emulator.count("download") == 2)
        await until(lambda: {*on_disk(tmp_path).values()} & {*LARGE.values()})  # one is whole
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        emulator.faults.clear()
        await download(itwin, tmp_path, resume=True)
    assert on_disk(tmp_path) == LARGE
    assert emulator.count("download") == 3


async def test_a_part_that_was_damaged_meanwhile_begins_again(emulator, tmp_path):
    await stopped(emulator, tmp_path, resume=True)
    for part in tmp_path.glob(".itwin-*/*"):
        if part.stat().st_size > 100_000:
            part.write_bytes(b"x" * part.stat().st_size)
    async with session(emulator) as itwin:
        await download(itwin, tmp_path, resume=True)
    assert on_disk(tmp_path) == LARGE


async def test_other_content_is_another_download(emulator, tmp_path):
    await stopped(emulator, tmp_path, resume=True)
    emulator.publish(EXTENSION, NUMBER, {"dist/large.bin": b"now small"})
    async with session(emulator) as itwin:
        await download(itwin, tmp_path, resume=True)
    assert (tmp_path / "dist/large.bin").read_bytes() == b"now small"
    assert ranges(emulator) == []


async def test_the_same_download_twice_at_once_is_refused(emulator, tmp_path):
    emulator.faults.add("download", Delay(60), times=None)
    async with session(emulator) as itwin:
        first = asyncio.create_task(download(itwin, tmp_path, resume=True))
        await until(lambda: emulator.count("download"))
        with pytest.raises(RuntimeError, match="is running"):
            await download(itwin, tmp_path, resume=True)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        emulator.faults.clear()
        await download(itwin, tmp_path, resume=True)
    assert on_disk(tmp_path) == LARGE


async def test_a_link_where_files_are_to_be_gathered_is_refused(emulator, tmp_path):
    inner, outside = tmp_path / "in", tmp_path / "outside"
    outside.mkdir()
    await stopped(emulator, inner, resume=True)
    (hidden,) = inner.iterdir()
    hidden.rename(tmp_path / "elsewhere")
    hidden.symlink_to(outside)
    async with session(emulator) as itwin:
        with pytest.raises(FileExistsError, match="is a link"):
            await download(itwin, inner, resume=True)
    assert not list(outside.iterdir())


DOWNLOADS = """
import asyncio, sys
from itwin_async import ITwinSession

async def main():
    async with ITwinSession.from_env() as itwin:
        await itwin.extensions.download_version(*sys.argv[1:], resume=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_process_goes_on_with_what_a_killed_one_left(emulator, tmp_path):
    emulator.publish(EXTENSION, NUMBER, {"a.bin": CONTENT * 10})
    emulator.faults.add("download", Slow(500_000, chunk=10_000))
    words = [sys.executable, "-c", DOWNLOADS, EXTENSION, NUMBER, str(tmp_path)]
    variables = {**os.environ, **emulator.environment}
    killed = await asyncio.create_subprocess_exec(*words, env=variables)

    def there() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob(".itwin-*/*"))

    await until(lambda: there() > 100_000, 60)
    killed.kill()
    assert await killed.wait() == -signal.SIGKILL
    left = there()
    ended = await asyncio.create_subprocess_exec(*words, env=variables)
    assert await ended.wait() == 0
    assert on_disk(tmp_path) == {"a.bin": CONTENT * 10}
    (wanted,) = ranges(emulator)
    assert 100_000 - 1_000 < int(wanted[6:-1]) <= left
