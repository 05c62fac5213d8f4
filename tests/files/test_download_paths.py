"""Paths and URLs of files that lead elsewhere are refused, and what is there is kept."""

import asyncio
from pathlib import Path

import pytest
from downloads import (
    EXTENSION,
    FILES,
    NUMBER,
    download,
    edited,
    emulator,
    is_untouched,
    itwin,
    on_disk,
)
from support import (
    until,
)

from itwin_async import (
    DecodeError,
    LinkError,
    NotFoundError,
)
from itwin_async._core.urls import split
from itwin_async._files.remote_files import check_signed_url
from itwin_async._files.safe_paths import safe_parts
from itwin_async.emulator import Delay, Edit, Status

__all__ = ["emulator", "itwin"]  # fixtures


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
    assert "/".join(safe_parts(path)) == path


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
    ("directory", "reason"),
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
    emulator, itwin, directory, reason, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^directory .*{reason}") as caught:
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
        origin, target = check_signed_url(base, url)
        assert f"{origin}{target}" == url
    else:
        with pytest.raises(LinkError):
            check_signed_url(base, url)


# What is there already


async def test_a_file_that_is_there_is_kept_without_overwrite(emulator, itwin, tmp_path):
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


async def test_a_file_where_the_directory_should_be_is_refused(itwin, tmp_path):
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
