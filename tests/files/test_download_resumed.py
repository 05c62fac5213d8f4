"""Downloads that go on where they were, tell how far they are, and put back what was there."""

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import (
    RawServer,
    Running,
    answer,
    cancel_kind,
    cancelled_at_each_await,
    head,
    session_at,
    until,
)

from itwin_async import (
    DownloadProgress,
    InvalidRequestError,
    ITwinSession,
    Retry,
    TransportError,
)
from itwin_async._files.staging import StagingDirectory
from itwin_async.emulator import Cut, Delay, Emulator, Slow, Status

__all__ = ["cancel_kind"]  # a fixture

EXTENSION = "41d94bd4-46b8-48e9-a29a-7c7704a7e662"
NUMBER = "9.0.0"
QUICK = Retry(base=0.001, cap=0.002)
CONTENT = b"".join(b"%07d\n" % nth for nth in range(5_000))  # 40,000 bytes, none like another
TAG = '"abc"'


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
    said = f"Content-Range: bytes {start + shift}-{len(CONTENT) - 1}/{total}"
    lines = [f"Content-Length: {len(body)}", "Connection: close", f"ETag: {tag}", said]
    body = body[::-1] if spoil else body
    return head(*lines, status="206 Partial Content") + body[:at]


def refuse_range(headers) -> bytes:
    return answer(b"", f"Content-Range: bytes */{len(CONTENT)}", status="416 No")


def download(itwin, directory, **options):
    return itwin.extensions.download_version(EXTENSION, NUMBER, directory, **options)


async def fetched(storage: Storage, directory, **options) -> bytes:
    """What a download of its file gives."""
    options.setdefault("retry", QUICK)
    async with storage, session_at(storage, **options) as itwin:
        await download(itwin, directory)
    assert [path.name for path in directory.iterdir()] == ["a.bin"]
    return (directory / "a.bin").read_bytes()


def on_disk(directory: Path) -> dict[str, bytes]:
    """Every file there is, by relative path."""
    found = (path for path in directory.rglob("*") if not path.is_dir())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


# Where it was


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


# With the emulator

LARGE = {"dist/large.bin": CONTENT * 10, "index.js": b"small"}


@pytest.fixture
async def emulator():
    async with Emulator(extensions=3, itwins=3, imodels=1) as running:
        running.publish(EXTENSION, NUMBER, LARGE)
        yield running


def session(emulator: Emulator, **options) -> ITwinSession:
    options.setdefault("retry", QUICK)
    return ITwinSession(emulator.credentials, base_url=emulator.url, **options)


def ranges(emulator: Emulator) -> list[str]:
    """The ranges that were asked for of files."""
    files = [each for each in emulator.requests if each.operation == "download"]
    return [each.headers["Range"] for each in files if "Range" in each.headers]


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


async def stopped(emulator: Emulator, directory: Path, at: int = 150_000, **options) -> None:
    """A download that fails when so many bytes of each file have come."""
    fault = emulator.faults.add("download", Cut(at), times=None)
    async with session(emulator, retry=Retry(1)) as itwin:
        with pytest.raises(TransportError):
            await download(itwin, directory, **options)
    emulator.faults.clear()
    del fault


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
        await until(lambda: sum(r.ended is not None for r in emulator.requests) >= 3)
        await asyncio.sleep(0.05)
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


# How far it is


async def test_progress_is_told_in_bytes(emulator, tmp_path):
    seen: list[DownloadProgress] = []
    async with session(emulator) as itwin:
        await download(itwin, tmp_path, on_progress=seen.append)
    size = sum(map(len, LARGE.values()))
    assert seen[-1] == DownloadProgress(2, 2, size, size)
    assert {each.bytes_total for each in seen} <= {None, size}
    done = [each.bytes_done for each in seen]
    assert done == sorted(done)
    assert len(seen) > 3


async def test_progress_of_what_was_resumed_begins_there(emulator, tmp_path):
    await stopped(emulator, tmp_path, resume=True)
    seen: list[DownloadProgress] = []
    async with session(emulator) as itwin:
        await download(itwin, tmp_path, resume=True, on_progress=seen.append)
    assert max(each.bytes_done for each in seen) == sum(map(len, LARGE.values()))


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


# All of them or none

OLD = {"dist/large.bin": b"old", "index.js": b"old too", "mine": b"mine"}


def write(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


@pytest.mark.parametrize("resume", [False, True])
async def test_a_replacing_download_that_is_cancelled_as_files_get_their_names_puts_them_back(
    emulator, tmp_path, monkeypatch, cancel_kind, resume
):
    settle = StagingDirectory.settle

    def settled(staging):
        loop.call_soon_threadsafe(running.cancel)
        return settle(staging)

    loop = asyncio.get_running_loop()
    write(tmp_path, OLD)
    monkeypatch.setattr(StagingDirectory, "settle", settled)
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

    def settled(kill_at: int) -> None:
        nonlocal steps
        steps = 0
        made = staging()
        made.open()
        for path, content in new.items():
            part = made.part(path)
            part.restart()
            part.append(content)
        steps = kill_at
        try:
            made.settle()
            made.commit()
        finally:
            made._close(remove=False)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", counted(os.link) if links else no_links)
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "mkdir", counted(Path.mkdir))
        for kill_at in range(1, 100):
            write(tmp_path, OLD)
            try:
                settled(kill_at)
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
staging.settle()
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


DOWNLOADS = """
import asyncio, sys
from itwin_async import ITwinSession

async def main():
    async with ITwinSession.from_env() as itwin:
        await itwin.extensions.download_version(*sys.argv[1:], resume=True)

asyncio.run(main())
"""


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
