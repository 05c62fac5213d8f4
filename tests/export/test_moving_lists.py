"""No row is lost and none is there twice, whatever is set in the lists or spoiled on disk."""

import shutil
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import anyio
import pytest
from exports import records_of

from itwin_async import ITwinSession, NotFoundError
from itwin_async.emulator import Edit, Emulator, Status
from itwin_async.export import ExportProgress, export_extended_data
from itwin_async.export import _job as job
from itwin_async.export import _lists as lists
from itwin_async.export._store import Store

ID = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """Every second changeset has extended data, from the first on."""
    async with Emulator(imodels=3, changesets=60, extended_data_every=2) as running:
        yield running


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "STORE_ROWS", 8)
    monkeypatch.setattr(lists, "PIECE_ROWS", 4)


def rows_of(output: Path) -> list[int]:
    """Of the iModel, as they lie in the file."""
    return [row["changeset_index"] for row in records_of(output) if row["imodel_id"] == ID]


async def on_the_platform(itwin: ITwinSession) -> list[int]:
    return [item.changeset_index async for item in itwin.imodels.list_extended_data(ID)]


async def set_late(itwin: ITwinSession, *indexes: int) -> None:
    for index in indexes:
        await itwin.imodels.create_extended_data(ID, index, {"late": index})


async def stop(rows: int, itwin, ids, output: Path, **options: Any) -> None:
    with anyio.CancelScope() as scope:

        def stop_at(progress: ExportProgress) -> None:
            if progress.rows >= rows:
                scope.cancel()

        await export_extended_data(itwin, ids, output, on_progress=stop_at, page_size=5, **options)
    assert scope.cancelled_caught


def set_while_read(emulator: Emulator, page: int, late: tuple[int, ...]) -> None:
    """Set them right behind the answer with this page."""
    asked = 0

    def edit(body: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == page:
            for index in late:
                emulator._state.imodels[ID].write_data(index, "e30=")
        return body

    emulator.faults.add("list_extended_data", Edit(edit), times=None)


@pytest.mark.parametrize(
    ("late", "page"), [((2,), 1), ((2,), 6), ((2, 4, 6), 3), ((12, 58), 3), ((60,), 3), ((60,), 5)]
)
async def test_what_is_set_while_it_is_read_is_there_once(late, page, emulator, itwin, tmp_path):
    set_while_read(emulator, page, late)
    exported = await export_extended_data(itwin, ID, tmp_path / "a.jsonl", page_size=5)
    rows = rows_of(tmp_path / "a.jsonl")
    assert len(rows) == len(set(rows)) == exported.rows
    emulator.faults.clear()
    there = await on_the_platform(itwin)
    # Behind the last page it is too late.
    assert sorted(rows) == (there if page < 6 else list(range(1, 60, 2)))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize("late", [(2,), (2, 4, 6, 8, 10), (18, 60)])
async def test_what_is_set_between_a_stop_and_its_resume_is_there_once(
    name, late, emulator, itwin, tmp_path
):
    output = tmp_path / name
    emulator.faults.add("list_extended_data", Status(404), after=4, times=None)
    with pytest.raises(NotFoundError):
        await export_extended_data(itwin, ID, output, page_size=5)
    emulator.faults.clear()
    await set_late(itwin, *late)
    exported = await export_extended_data(itwin, ID, output, page_size=5)
    rows = rows_of(output)
    assert len(rows) == len(set(rows)) == exported.rows
    assert sorted(rows) == await on_the_platform(itwin)


async def test_stopped_while_it_is_read_once_more(emulator, itwin, tmp_path):
    output = tmp_path / "a.jsonl"
    emulator.faults.add("list_extended_data", Status(404), after=9, times=None)
    set_while_read(emulator, 2, (2, 4))
    with pytest.raises(NotFoundError):
        await export_extended_data(itwin, ID, output, page_size=5)
    emulator.faults.clear()
    exported = await export_extended_data(itwin, ID, output, page_size=5)
    assert exported.rows == 32
    assert sorted(rows_of(output)) == await on_the_platform(itwin)


async def test_a_list_that_has_an_entry_twice_ends(emulator, itwin, tmp_path):
    def twice(body: Any) -> Any:
        body["extendedData"] += body["extendedData"][-1:]
        return body

    emulator.faults.add("list_extended_data", Edit(twice), times=None)
    exported = await export_extended_data(itwin, ID, tmp_path / "a.jsonl")
    assert exported.rows == 30
    assert emulator.count("list_extended_data") == 3


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
async def test_since_finds_what_was_set_late_where_its_place_has_moved(
    name, emulator, itwin, tmp_path
):
    output = tmp_path / name
    await export_extended_data(itwin, ID, output)
    await set_late(itwin, 2, 30)
    exported = await export_extended_data(itwin, ID, output, since=0)
    assert exported.rows == 32
    assert sorted(rows_of(output)) == await on_the_platform(itwin)
    before = emulator.count("list_extended_data")
    again = await export_extended_data(itwin, ID, output, since=0)
    assert again.rows == 32
    assert emulator.count("list_extended_data") == before + 1  # nothing has moved


# Files that are not what was written


def zeros(part: Path) -> None:
    part.write_bytes(bytes(part.stat().st_size))


def one_byte(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)


def shorter(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "spoil", "which"),
    [
        ("a.jsonl", zeros, 0),
        ("a.jsonl", one_byte, 1),
        ("a.jsonl", shorter, -1),
        ("a.jsonl", Path.unlink, 1),
        ("a.parquet", zeros, 1),
        ("a.parquet", one_byte, -1),
        ("a.arrow", zeros, 0),
    ],
)
async def test_a_part_that_has_changed_is_read_again(
    which, spoil, name, emulator, itwin, tmp_path, caplog
):
    ids = [
        imodel.id
        async for item in itwin.itwins.list_itwins()
        async for imodel in itwin.imodels.list_imodels(item.id)
    ]
    output = tmp_path / name
    await stop(45, itwin, ids, output)
    suffix = ".jsonl" if name == "a.jsonl" else ".arrows"
    parts = sorted((tmp_path / f"{name}.parts").glob(f"0*{suffix}"))
    spoil(parts[which])
    exported = await export_extended_data(itwin, ids, output)
    assert exported.rows == 30 * len(ids)
    assert rows_of(output) == await on_the_platform(itwin)
    assert f"{parts[which]}' is not as it was stored" in caplog.text


@pytest.mark.parametrize(
    ("how", "which"), [("lost", 1), ("lost", -2), ("lost", -1), ("changed", 2), ("twice", 1)]
)
async def test_a_line_of_the_journal_that_is_not_as_written_loses_no_row(
    which, how, itwin, tmp_path
):
    output = tmp_path / "a.jsonl"
    await stop(24, itwin, ID, output)
    journal = tmp_path / "a.jsonl.parts" / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    if how == "lost":
        del lines[which]
    elif how == "changed":
        lines[which] = lines[which].replace(b'"rows":', b'"rows":1')
    else:
        lines.insert(which, lines[which])
    journal.write_bytes(b"".join(lines))
    exported = await export_extended_data(itwin, ID, output)
    assert exported.rows == 30
    assert rows_of(output) == await on_the_platform(itwin)


async def test_a_journal_without_its_beginning_is_refused(emulator, itwin, tmp_path):
    output = tmp_path / "a.jsonl"
    await stop(24, itwin, ID, output)
    journal = tmp_path / "a.jsonl.parts" / "journal"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[1:]))
    before = len(emulator.requests)
    with pytest.raises(ValueError, match="journal is not what this version wrote"):
        await export_extended_data(itwin, ID, output)
    assert len(emulator.requests) == before
    assert (await export_extended_data(itwin, ID, output, resume=False)).rows == 30


async def test_a_part_that_changes_while_it_runs_is_never_used(itwin, tmp_path, monkeypatch):
    output = tmp_path / "a.jsonl"
    finish = Store.finish

    def spoiled(store: Store) -> Generator[None]:
        one_byte(tmp_path / "a.jsonl.parts" / "000001.jsonl")
        yield from finish(store)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "finish", spoiled)
        with pytest.raises(OSError, match=r"what was stored has changed.*000001\.jsonl"):
            await export_extended_data(itwin, ID, output, page_size=5)
    assert not output.exists()
    assert (await export_extended_data(itwin, ID, output)).rows == 30
    assert rows_of(output) == await on_the_platform(itwin)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
async def test_an_output_that_has_changed_is_not_added_to(name, emulator, itwin, tmp_path):
    output = tmp_path / name
    await export_extended_data(itwin, ID, output)
    one_byte(output)
    kept = output.read_bytes()
    before = len(emulator.requests)
    with pytest.raises(ValueError, match="is not what its export left"):
        await export_extended_data(itwin, ID, output, since=0)
    assert len(emulator.requests) == before
    assert output.read_bytes() == kept
    assert not (tmp_path / f"{name}.parts").exists()


async def test_what_is_added_to_and_changes_between_is_refused(emulator, itwin, tmp_path):
    output = tmp_path / "a.jsonl"
    await export_extended_data(itwin, ID, output)
    shutil.copyfile(output, tmp_path / "kept")
    for _ in range(20):
        emulator.push_changeset(ID)
    await set_late(itwin, *range(61, 81))
    with anyio.CancelScope() as scope:
        await export_extended_data(
            itwin, ID, output, since=0, page_size=5, on_progress=lambda _: scope.cancel()
        )
    with output.open("r+b") as file:  # in place, so that what is linked to it changes as well
        file.write(b"?")
    with pytest.raises(ValueError, match=r"base is not as it was stored: begin anew"):
        await export_extended_data(itwin, ID, output, since=0)
    shutil.copyfile(tmp_path / "kept", output)
    await export_extended_data(itwin, ID, output, since=0)
    assert rows_of(output) == await on_the_platform(itwin)
