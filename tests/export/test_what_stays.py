"""What the user had stays, what an export needs is tried first, and an error names its file."""

import errno
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itwin_async.emulator import Edit, Status
from itwin_async.errors import NotFoundError
from itwin_async.export import ExportProgress, _output, export_extended_data
from itwin_async.export import _job as job
from itwin_async.export import _lists as lists

ID = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


async def stop(itwin, output: Path, rows: int = 9, **options) -> None:
    """Cancel an export behind so many rows."""
    with anyio.CancelScope() as scope:

        def stop_at(progress: ExportProgress) -> None:
            if progress.rows >= rows:
                scope.cancel()

        await export_extended_data(itwin, ID, output, on_progress=stop_at, page_size=5, **options)
    assert scope.cancelled_caught


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "STORE_ROWS", 8)
    monkeypatch.setattr(lists, "PIECE_ROWS", 4)


def lines_of(output: Path) -> list[int]:
    return [json.loads(line)["changeset_index"] for line in output.read_bytes().splitlines()]


# What is beside the output


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("name", ["mine.txt", "journal", "000001.jsonl", "lock"])
async def test_a_directory_of_the_users_own_is_not_touched(name, resume, emulator, itwin, tmp_path):
    parts = tmp_path / "a.jsonl.parts"
    parts.mkdir()
    (parts / name).write_text("mine")
    with pytest.raises(ValueError, match=r"a\.jsonl\.parts was not made by an export of this ver"):
        await export_extended_data(itwin, ID, tmp_path / "a.jsonl", resume=resume)
    assert [item.name for item in parts.iterdir()] == [name]
    assert (parts / name).read_text() == "mine"
    assert not emulator.requests


async def test_parts_of_another_version_are_not_misread(emulator, itwin, tmp_path, small_parts):
    await stop(itwin, tmp_path / "a.jsonl")
    marker = tmp_path / "a.jsonl.parts" / "itwin-async-export"
    marker.write_text(marker.read_text().replace("version 3", "version 4"))
    before = len(emulator.requests)
    with pytest.raises(ValueError, match="was not made by an export of this version"):
        await export_extended_data(itwin, ID, tmp_path / "a.jsonl", resume=False)
    assert len(emulator.requests) == before


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_what_is_in_the_way_is_refused(kind, emulator, itwin, tmp_path):
    parts = tmp_path / "a.jsonl.parts"
    if kind == "file":
        parts.write_text("mine")
    else:
        parts.symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"a\.jsonl\.parts is in the way"):
        await export_extended_data(itwin, ID, tmp_path / "a.jsonl")
    assert not emulator.requests


async def test_what_somebody_puts_among_the_parts_stays(itwin, tmp_path, small_parts):
    output = tmp_path / "a.jsonl"
    await stop(itwin, output)
    (tmp_path / "a.jsonl.parts" / "notes").write_text("mine")
    for _ in range(2):
        await export_extended_data(itwin, ID, output)
        assert lines_of(output) == list(range(1, 26))
        assert (tmp_path / "a.jsonl.parts" / "notes").read_text() == "mine"
        assert len(list((tmp_path / "a.jsonl.parts").iterdir())) == 2  # and the marker


@pytest.mark.parametrize("name", ["a.jsonl.bad.jsonl", "a.jsonl.checkpoint"])
@pytest.mark.parametrize("text", ["", "mine", '{"mine": 1}\n'])
async def test_files_of_the_users_own_beside_it_are_not_replaced(
    name, text, emulator, itwin, tmp_path
):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="was not made by an export, and would be replaced"):
        await export_extended_data(itwin, ID, tmp_path / "a.jsonl")
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == {name: text}
    assert not emulator.requests


async def test_a_file_of_the_users_own_is_not_deleted_where_rows_are_added(itwin, tmp_path):
    await export_extended_data(itwin, ID, tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl.bad.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="was not made by an export, and would be replaced"):
        await export_extended_data(itwin, ID, tmp_path / "a.jsonl", since=0)
    assert (tmp_path / "a.jsonl.bad.jsonl").read_text() == "mine"


async def test_a_name_that_leaves_no_room_for_those_beside_it_is_refused_first(
    emulator, itwin, tmp_path
):
    name = "a" * (255 - len(".jsonl.parts")) + ".jsonl"
    with pytest.raises(OSError, match="File name too long"):
        await export_extended_data(itwin, ID, tmp_path / name)
    assert not emulator.requests
    assert not list(tmp_path.iterdir())


# Where the last rename cannot be done


@pytest.fixture
def other_device(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system."""
    for path in (Path("/dev/shm"), Path.home(), Path("/var/tmp")):
        if (
            path.is_dir()
            and os.access(path, os.W_OK)
            and (path.stat().st_dev != tmp_path.stat().st_dev)
        ):
            directory = path / f"itwin-async-{os.getpid()}-{tmp_path.name}"
            directory.mkdir()
            yield directory
            for item in directory.iterdir():
                item.unlink()
            directory.rmdir()
            return
    pytest.skip("there is one file system alone")


@pytest.mark.parametrize("since", [None, 0])
async def test_parts_may_be_a_link_to_another_file_system(
    since, itwin, tmp_path, other_device, small_parts
):
    output = tmp_path / "a.jsonl"
    if since is not None:
        await export_extended_data(itwin, ID, output, since=10)
    since = None if since is None else 10
    (tmp_path / "a.jsonl.parts").symlink_to(other_device)
    if since is None:
        await stop(itwin, output)
    exported = await export_extended_data(itwin, ID, output, since=since)
    assert lines_of(output) == list(range(1 if since is None else 11, 26))
    assert exported.rows == len(lines_of(output))
    assert (tmp_path / "a.jsonl.parts").is_symlink()
    assert not list(other_device.iterdir())


def mounted(path: Path) -> bool:
    """Make a file a mount of its own, as containers do with single files."""
    try:
        done = subprocess.run(["mount", "--bind", path, path], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.fixture
def mounted_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    output = tmp_path / "a.jsonl"
    output.write_text("before, and longer than all that is to come" * 1_000)
    if mounted(output):
        yield output
        subprocess.run(["umount", output], check=True)
        return
    # Where nobody may mount, what the system would say of one.
    link, replace = os.link, Path.replace

    def linked(source, target, **options):
        if Path(source) == output:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)
        return link(source, target, **options)

    def replaced(path, target):
        if Path(target) == output:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        return replace(path, target)

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(Path, "replace", replaced)
    yield output


async def test_an_output_that_is_a_mount_of_its_own_is_written_in_place(
    emulator, itwin, mounted_output, small_parts
):
    node = mounted_output.stat().st_ino
    await export_extended_data(itwin, ID, mounted_output, page_size=5)
    assert lines_of(mounted_output) == list(range(1, 26))
    await export_extended_data(itwin, ID, mounted_output, since=0)
    assert lines_of(mounted_output) == list(range(1, 26))
    assert mounted_output.stat().st_ino == node
    assert len(list(mounted_output.parent.iterdir())) == 2  # and its checkpoint


async def test_a_rename_that_fails_against_expectation_is_no_end(itwin, tmp_path, monkeypatch):
    output = tmp_path / "a.jsonl"
    replace = Path.replace

    def replaced(path: Path, target: Path) -> Path:
        if target == output:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    for _ in range(2):
        await export_extended_data(itwin, ID, output)
        assert lines_of(output) == list(range(1, 26))
    with pytest.raises(OSError, match="busy"):  # it is linked to what it is made of
        await export_extended_data(itwin, ID, output, since=0)
    monkeypatch.undo()
    await export_extended_data(itwin, ID, output, since=0)
    assert lines_of(output) == list(range(1, 26))


async def test_killed_while_it_is_written_in_place_nothing_is_lost(
    itwin, mounted_output, monkeypatch
):
    await export_extended_data(itwin, ID, mounted_output)
    copy = _output.shutil.copyfileobj

    def fail(source, target, length):
        target.write(source.read(100))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_output.shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.jsonl'"):
        await export_extended_data(itwin, ID, mounted_output, since=0)
    monkeypatch.setattr(_output.shutil, "copyfileobj", copy)
    await export_extended_data(itwin, ID, mounted_output, since=0)
    assert lines_of(mounted_output) == list(range(1, 26))


async def test_an_output_that_can_be_neither_replaced_nor_written_is_refused_at_once(
    emulator, itwin, mounted_output, monkeypatch
):
    before = mounted_output.read_bytes()
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: Path(path) != mounted_output,  # as no root would see it
    )
    with pytest.raises(PermissionError, match=r"can neither be replaced nor written to: .*a.jsonl"):
        await export_extended_data(itwin, ID, mounted_output)
    assert not emulator.requests
    assert mounted_output.read_bytes() == before
    assert not mounted_output.with_name("a.jsonl.parts").exists()


async def test_a_directory_that_cannot_be_written_to_is_refused_first(
    emulator, itwin, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to") as caught:
        await export_extended_data(itwin, ID, tmp_path / "a.jsonl")
    assert caught.value.filename == str(tmp_path)
    assert not emulator.requests


# Paths


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".arrow"])
async def test_a_name_need_not_be_text(suffix, emulator, itwin, tmp_path, small_parts):
    output = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    emulator.faults.add("list_extended_data", Edit(spoil))
    await stop(itwin, output)
    for since in (None, 0):
        exported = await export_extended_data(itwin, ID, output, since=since)
        assert exported.output == output
        assert (exported.rows, exported.bad) == (24, 1)
    if suffix != ".jsonl":
        with output.open("rb") as file:
            table = pq.read_table(file) if suffix == ".parquet" else pa.ipc.open_file(file)
            assert table.schema.names[-1] == "data"
    assert len(list(tmp_path.iterdir())) == 3


def spoil(body):
    body["extendedData"][3]["data"] = "%%%"
    return body


@pytest.mark.parametrize(
    ("output", "kind", "message"),
    [
        (b"a.jsonl", TypeError, "output must be a path, not bytes"),
        (None, TypeError, "output must be a path, not NoneType"),
        ("a\0.jsonl", ValueError, "output must be a path, without a null character"),
    ],
)
async def test_what_is_no_path_is_no_output(output, kind, message, emulator, itwin):
    with pytest.raises(kind) as caught:
        await export_extended_data(itwin, ID, output)
    assert str(caught.value) == message
    assert not emulator.requests


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize(
    "output", ["s3://bucket/a.jsonl", "gs://bucket/a", "https://example.com/a.parquet", "file:///a"]
)
async def test_a_url_is_no_output(output, kind, emulator, itwin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="output must be a path of this machine, not a URL"):
        await export_extended_data(itwin, ID, kind(output))
    assert not emulator.requests
    assert not list(tmp_path.iterdir())


async def test_a_home_directory_is_for_a_shell_to_find(emulator, itwin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for output in ("~/a.jsonl", "~somebody/a.jsonl"):
        with pytest.raises(ValueError, match=r"output begins with ~.* shell alone"):
            await export_extended_data(itwin, ID, output)
    assert not emulator.requests
    await export_extended_data(itwin, ID, "~a.jsonl")  # a name like any other
    assert lines_of(tmp_path / "~a.jsonl") == list(range(1, 26))


async def test_a_missing_directory_is_named(emulator, itwin, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="The directory of the output is not there"
    ) as caught:
        await export_extended_data(itwin, ID, tmp_path / "missing" / "a.jsonl")
    assert caught.value.filename == str(tmp_path / "missing")
    assert not emulator.requests


# Errors while writing


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".arrow"])
async def test_an_error_of_writing_names_the_file_and_leaves_what_goes_on(
    suffix, itwin, tmp_path, small_parts
):
    output = tmp_path / f"a{suffix}"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    stopped: list[int] = []

    def limited(progress: ExportProgress) -> None:
        if progress.rows >= 12 and not stopped:  # what is stored by then stays
            stopped.append(progress.rows)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))

    try:
        with pytest.raises(OSError, match=r"File too large: '.*a\.\w+\.parts/00000\d") as caught:
            await export_extended_data(itwin, ID, output, page_size=5, on_progress=limited)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.errno == errno.EFBIG
    reports: list[ExportProgress] = []
    exported = await export_extended_data(itwin, ID, output, on_progress=reports.append)
    assert reports[-1].resumed >= 8
    assert exported.rows == 25


async def test_an_imodel_that_fails_is_named(emulator, itwin, tmp_path):
    imodels = [item.id async for item in itwin.imodels.list_imodels(ITWIN)]
    path = f"/imodels/{imodels[1]}/"
    emulator.faults.add(lambda request: request.path.startswith(path), Status(404), times=None)
    with pytest.raises(NotFoundError) as caught:
        await export_extended_data(itwin, imodels, tmp_path / "a.jsonl")
    assert imodels[1] in "\n".join(caught.value.__notes__)


ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"


async def test_an_imodel_in_two_spellings_is_one(itwin, tmp_path, small_parts):
    output = tmp_path / "a.jsonl"
    await stop(itwin, output)
    exported = await export_extended_data(itwin, [ID.upper(), ID], output)
    assert (exported.rows, exported.imodels) == (25, 1)
    assert lines_of(output) == list(range(1, 26))


async def test_the_same_imodels_found_on_the_way_are_the_same_export(itwin, tmp_path, small_parts):
    async def found():
        yield ID

    output = tmp_path / "a.jsonl"
    await stop(itwin, output)
    exported = await export_extended_data(itwin, found(), output)
    assert exported.rows == 25
