"""Files of a version: fetched without the token, whole or not at all, and where they belong."""

import asyncio
import hashlib
import json
import pickle
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from support import (
    Clock,
    RawServer,
    Running,
    answer,
    cancelled_at_each_await,
    head,
    session_at,
    until,
)

from itwin_async import (
    DecodeError,
    ForbiddenError,
    InvalidRequestError,
    ITwinError,
    ITwinSession,
    Limiter,
    LinkError,
    NotFoundError,
    RateLimitError,
    ResponseReceived,
    Retry,
    ServerError,
    StaticToken,
    TransportError,
)
from itwin_async._core.urls import split
from itwin_async._files.download import inside, signed
from itwin_async._files.staging import StagingDirectory
from itwin_async.emulator import Cut, Delay, Edit, Emulator, Reset, Slow, Status

EXTENSION = "41d94bd4-46b8-48e9-a29a-7c7704a7e662"
NUMBER = "9.0.0"
FILES = {f"dist/{nth % 5}/part {nth}.js": b"%d\n" % nth * (1 + nth * 997) for nth in range(50)}
QUICK = Retry(base=0.001, cap=0.002)


@pytest.fixture
async def emulator():
    async with Emulator(extensions=3, itwins=3, imodels=1) as running:
        running.publish(EXTENSION, NUMBER, FILES)
        yield running


@pytest.fixture
async def itwin(emulator):
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=QUICK) as session:
        yield session


def on_disk(directory) -> dict[str, bytes]:
    """Every file there is, by relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if not path.is_dir()
    }


def is_untouched(directory) -> bool:
    """Whether there is nothing at all, hidden or not."""
    return not directory.exists() or not list(directory.rglob("*"))


def download(itwin, directory, **options):
    return itwin.extensions.download_version(EXTENSION, NUMBER, directory, **options)


def edited(change) -> Edit:
    """A version whose first file is changed."""
    return Edit(lambda body: change(body["version"]["files"][0]))


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
    said = []
    emulator.faults.add("get_version", Edit(said.append))
    await download(itwin, tmp_path, archive=True)
    version = said[0]["version"]
    urls = [file["downloadUrl"] for file in [*version["files"], version["archiveFile"]]]
    got = [each for each in emulator.requests if each.operation.startswith("download")]
    assert sorted(f"{emulator.url}{each.target}" for each in got) == sorted(urls)
    assert any("%2F" in url or "%2B" in url for url in urls)
    for each in got:
        assert "Authorization" not in each.headers
        assert each.headers["Accept-Encoding"] == "identity"
        assert each.headers["User-Agent"].startswith("itwin-async/")


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


async def test_the_pace_of_the_platform_is_not_spent_on_files(emulator, tmp_path):
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


# Faults of the network


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_connection_is_survived(emulator, itwin, tmp_path, reset):
    emulator.faults.add("download", Cut(2_000, reset=reset), times=3, after=5)
    await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES
    assert itwin.stats.retries >= 1


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


async def test_a_throttled_storage_closes_no_door_of_the_platform(emulator, itwin, tmp_path):
    emulator.faults.add("download", Status(429, headers={"Retry-After": "9999"}), times=None)
    with pytest.raises(RateLimitError) as caught:
        await download(itwin, tmp_path)
    assert caught.value.retry_after == 9_999
    assert itwin.limiter.paused_for() == 0
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


# Paths

HOSTILE = [
    "../x.js", "..", ".", "a/../../x.js", "a/..", "./x.js", "/etc/x.js", "//host/x.js", "a//b.js",
    "a/", "", None, "C:/x.js", "C:x.js", "a:b", "..\\x.js", "a\\b.js", "\\\\host\\x.js", "x\x00.js",
    "x\n.js", "\u202ex.js", "CON",
    "a/nul.txt", "aux.js", "com1", "LPT9.log", "x.", "x ", ".. /x.js",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
async def test_a_path_that_may_lead_out_is_refused_before_anything_is_fetched(
    emulator, itwin, tmp_path, path
):
    change = Edit(lambda body: body["version"]["files"][30].update(relativePath=path))
    emulator.faults.add("get_version", change)
    with pytest.raises(DecodeError, match="may lead out of the directory") as caught:
        await download(itwin, tmp_path / "in")
    assert caught.value.operation == "GET /extensions/{extension_id}/versions/{number}"
    assert len(str(caught.value).splitlines()) == 1
    assert emulator.count("download") == 0
    assert is_untouched(tmp_path)


@pytest.mark.parametrize(
    "path", ["a", "a/b", "a b.js", ".hidden", "...x", "%2e%2e/x", "é/☃.js", "console.js", "com"]
)
def test_an_ordinary_path_stays_what_it_is(path):
    assert "/".join(inside(path)) == path


@pytest.mark.parametrize("where", ["parent", "itself", "dangling"])
@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_link_on_the_way_is_refused(emulator, itwin, tmp_path, where, overwrite):
    outside, inner = tmp_path / "outside", tmp_path / "in"
    (outside / "1").mkdir(parents=True)
    (outside / "victim").write_bytes(b"mine")
    (inner / "dist" / "0").mkdir(parents=True)
    if where == "parent":
        (inner / "dist" / "1").symlink_to(outside)
    else:
        target = outside / ("victim" if where == "itself" else "missing")
        (inner / "dist" / "0" / "part 0.js").symlink_to(target)
    with pytest.raises(DecodeError, match="may lead out of the directory"):
        await download(itwin, inner, overwrite=overwrite)
    assert on_disk(outside) == {"victim": b"mine"}
    assert emulator.count("download") == 0


async def test_a_link_that_appears_while_files_arrive_is_refused(emulator, itwin, tmp_path):
    outside, inner = tmp_path / "outside", tmp_path / "in"
    outside.mkdir()
    emulator.faults.add("download", Delay(0.2), after=49)
    task = asyncio.create_task(download(itwin, inner))
    await until(lambda: emulator.count("download") == 50)
    (inner / "dist").symlink_to(outside)
    with pytest.raises(DecodeError, match="may lead out of the directory"):
        await task
    assert on_disk(outside) == {}
    assert [path.name for path in inner.iterdir()] == ["dist"]


@pytest.mark.parametrize(
    ("directory", "said"),
    [
        ("", "must not be empty"),
        ("s3://bucket/x?sig=hidden", "a path of this machine, not a URL: 's3:"),
        (Path("s3://bucket/x"), "a path of this machine, not a URL: 's3:/bucket/x'"),
        ("file:///tmp/x", "a path of this machine, not a URL"),
        ("~/x", "begins with ~, which means a home directory to a shell alone"),
        (Path("~"), "begins with ~"),
    ],
)
async def test_what_is_no_directory_of_this_machine_is_refused(
    emulator, itwin, directory, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^directory .*{said}") as caught:
        await download(itwin, directory)
    assert "hidden" not in str(caught.value)
    assert is_untouched(tmp_path)
    assert emulator.count("get_version") == 0


async def test_the_directory_itself_may_be_a_link(itwin, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    await download(itwin, tmp_path / "link")
    assert on_disk(tmp_path / "real") == FILES


async def test_two_files_of_one_path_are_refused(emulator, itwin, tmp_path):
    double = Edit(lambda body: body["version"]["files"].append(body["version"]["files"][0]))
    emulator.faults.add("get_version", double)
    with pytest.raises(DecodeError, match="same relativePath"):
        await download(itwin, tmp_path)
    assert is_untouched(tmp_path)


async def test_a_file_where_another_needs_a_directory_is_refused(emulator, itwin, tmp_path):
    emulator.publish(EXTENSION, NUMBER, {"a": b"1", "b": b"2", "a/c": b"3"})
    with pytest.raises(OSError):
        await download(itwin, tmp_path)
    assert is_untouched(tmp_path)


async def test_a_file_that_was_replaced_before_a_failure_is_put_back(emulator, itwin, tmp_path):
    (tmp_path / "kept").write_bytes(b"old")
    emulator.publish(EXTENSION, NUMBER, {"kept": b"new", "a": b"1", "a/c": b"3"})
    with pytest.raises(OSError):
        await download(itwin, tmp_path, overwrite=True)
    assert on_disk(tmp_path) == {"kept": b"old"}


@pytest.mark.parametrize("name", ["..%2F..%2Fx.zip", "..", "C%3A", ""])
async def test_the_name_of_an_archive_is_not_trusted_either(emulator, itwin, tmp_path, name):
    def rename(body):
        body["version"]["archiveFile"]["downloadUrl"] = f"{emulator.url}/blob/{name}?sig=x"

    emulator.faults.add("get_version", Edit(rename))
    with pytest.raises(DecodeError, match="may lead out of the directory"):
        await download(itwin, tmp_path, archive=True)
    assert is_untouched(tmp_path)


# URLs


@pytest.mark.parametrize(
    "url",
    [
        None, "", "x", "/relative", "ftp://h/f", "https:///f", "https://u:p@h/f", "https://h\\@e/f",
        "http://blob.example/f?sig=canary", "http://10.0.0.1/f", "file:///etc/passwd",
        "https://h/a b", "https://h/\n",
    ],
)  # fmt: skip
async def test_an_url_that_is_not_https_is_refused_unsent(emulator, itwin, tmp_path, url):
    emulator.faults.add("get_version", edited(lambda file: file.update(downloadUrl=url)))
    with pytest.raises(LinkError, match="a download URL") as caught:
        await download(itwin, tmp_path)
    assert "canary" not in str(caught.value)
    assert emulator.count("download") == 0
    assert is_untouched(tmp_path)


LOCAL, FAR = split("http://127.0.0.1:8080/")[0], split("https://api.bentley.com/")[0]


@pytest.mark.parametrize(
    ("base", "url", "taken"),
    [
        (FAR, "https://blob.example/f?sig=%2Fa%7e", True),
        (FAR, "https://api.bentley.com/f", True),
        (FAR, "http://blob.example/f", False),
        (FAR, "http://127.0.0.1/f", False),
        (FAR, "https://localhost/f", False),
        (FAR, "https://[::1]/f", False),
        (LOCAL, "http://127.0.0.1:8080/f", True),
        (LOCAL, "http://localhost:9/f", True),
        (LOCAL, "https://blob.example/f", True),
        (LOCAL, "http://blob.example/f", False),
    ],
)
def test_where_files_may_come_from(base, url, taken):
    if taken:
        origin, target = signed(base, url)
        assert f"{origin}{target}" == url
    else:
        with pytest.raises(LinkError):
            signed(base, url)


# What is there already


async def test_a_file_that_is_there_is_kept_unless_told_otherwise(emulator, itwin, tmp_path):
    name = "dist/1/part 41.js"
    (tmp_path / "dist" / "1").mkdir(parents=True)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"part 41\.js is there already"):
        await download(itwin, tmp_path)
    assert on_disk(tmp_path) == {name: b"mine"}
    assert emulator.count("download") == 0
    (tmp_path / "other").write_bytes(b"other")
    await download(itwin, tmp_path, overwrite=True)
    assert on_disk(tmp_path) == {**FILES, "other": b"other"}


async def test_a_directory_where_a_file_is_to_go_is_kept(itwin, tmp_path):
    (tmp_path / "dist" / "0" / "part 0.js").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        await download(itwin, tmp_path, overwrite=True)
    assert on_disk(tmp_path) == {}


async def test_a_failed_download_keeps_what_was_there(emulator, itwin, tmp_path):
    name = "dist/0/part 0.js"
    (tmp_path / "dist" / "0").mkdir(parents=True)
    (tmp_path / name).write_bytes(b"mine")
    emulator.faults.add("download", Status(404), after=49)
    with pytest.raises(NotFoundError):
        await download(itwin, tmp_path, overwrite=True)
    assert on_disk(tmp_path) == {name: b"mine"}


async def test_a_file_where_the_directory_should_be_is_told(itwin, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        await download(itwin, tmp_path / "file")
    assert on_disk(tmp_path) == {"file": b""}


async def test_two_downloads_into_one_directory_do_not_disturb_each_other(
    emulator, itwin, tmp_path
):
    emulator.publish(EXTENSION, "9.1.0", {"dist/other.js": b"other"})
    other = itwin.extensions.download_version(EXTENSION, "9.1.0", tmp_path)
    await asyncio.gather(download(itwin, tmp_path), other)
    assert on_disk(tmp_path) == {**FILES, "dist/other.js": b"other"}


# Ends from outside


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
    settle = StagingDirectory.settle

    def settled(staging):
        loop.call_soon_threadsafe(task.cancel)
        return settle(staging)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(StagingDirectory, "settle", settled)
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


# Waiting


async def test_a_version_without_files_is_told(emulator, itwin, tmp_path):
    emulator.publish(EXTENSION, "8.0.0", {}, status="Odd", status_message="no\nluck")
    with pytest.raises(ITwinError, match=r"8\.0\.0 has no files: its status is Odd \(no luck\)"):
        await itwin.extensions.download_version(EXTENSION, "8.0.0", tmp_path)
    assert is_untouched(tmp_path)


async def test_a_version_without_an_archive_is_told(emulator, itwin, tmp_path):
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


async def test_a_version_that_is_not_ready_in_time_is_told_with_its_status(emulator, itwin):
    emulator.publish(EXTENSION, "8.0.0", {}, status="Failed", status_message="bad zip")
    told = r"8\.0\.0 was not ready in 60 s: its status is Failed \(bad zip\)"
    with Clock() as clock:
        waiting = asyncio.create_task(
            itwin.extensions.wait_until_ready(EXTENSION, "8.0.0", timeout=60)
        )
        while emulator.count("get_version") < 2:  # so it knows what the first look told
            clock.forward(0.1)
            await asyncio.sleep(0.002)
        while not waiting.done():
            clock.forward(5)
            await asyncio.sleep(0.002)
        with pytest.raises(TimeoutError, match=told):
            await waiting


async def test_a_platform_that_does_not_answer_in_time_is_told(emulator, itwin):
    emulator.faults.add("get_version", Delay(60), times=None)
    with pytest.raises(TimeoutError, match="there was no answer"):
        await itwin.extensions.wait_until_ready(EXTENSION, NUMBER, timeout=0.05)


async def test_waiting_for_a_version_that_is_not_there_ends_at_once(emulator, itwin):
    with pytest.raises(NotFoundError, match="VersionNotFound"):
        await itwin.extensions.wait_until_ready(EXTENSION, "99.0.0")
    assert emulator.count("get_version") == 1


def server_of(content: bytes, broken: bytes, *, query: str = "?sig=x") -> RawServer:
    """Serves a version of one file, and then what is said of the file, each on a connection."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    async def serve(connection) -> None:
        got = await connection.request()
        if not got.target.startswith("/blob"):
            file = {
                "downloadUrl": f"{server.url}/blob{query}",
                "downloadUrlExpiresAt": soon,
                "relativePath": "a.bin",
                "checksum": {"sha256": hashlib.sha256(content).hexdigest()},
            }
            body = json.dumps({"version": {"number": NUMBER, "files": [file]}}).encode()
            await connection.send(answer(body, "Connection: close"))
        else:
            await connection.send(broken)

    server = RawServer(serve)
    return server


async def test_a_session_of_a_token_alone_can_download(emulator, tmp_path):
    token = StaticToken(emulator.issue_token())
    async with ITwinSession(token, base_url=emulator.url) as itwin:
        await download(itwin, tmp_path)
    assert on_disk(tmp_path) == FILES
