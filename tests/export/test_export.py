"""An export is one file with every entry once, in each format, whatever the payloads hold."""

import asyncio
import base64
import json
import os
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import Running, cancelled_at_each_await, until

from itwin_async import ITwinSession, NotFoundError, Retry, StaticToken, TransportError
from itwin_async.emulator import Cut, Edit, Emulator, Reset, Status, Throttle
from itwin_async.export import ExportProgress, export_extended_data
from itwin_async.export import _job as job
from itwin_async.export import _lists as lists
from itwin_async.export._arrow import ArrowFile
from itwin_async.export._store import Store

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
Row = tuple[str, int, str, Any]


async def every_imodel(itwin: ITwinSession) -> list[str]:
    return [
        imodel.id
        async for each in itwin.itwins.list_itwins()
        async for imodel in itwin.imodels.list_imodels(each.id)
    ]


async def held(itwin: ITwinSession, imodels: list[str]) -> list[Row]:
    """What the platform holds, by the list itself."""
    rows = [
        (entry.imodel_id, entry.changeset_index, entry.changeset_id, entry.data)
        for imodel_id in imodels
        async for entry in itwin.imodels.list_extended_data(imodel_id)
    ]
    return sorted(rows, key=lambda row: row[:2])


def rows_of(output: Path) -> list[Row]:
    if output.suffix in {".jsonl", ".ndjson"}:
        rows = [json.loads(line) for line in output.read_text().splitlines()]
    else:
        rows = [{**row, "data": as_object(row["data"])} for row in table_of(output).to_pylist()]
    return sorted(
        ((*(row[name] for name in NAMES), row["data"]) for row in rows), key=lambda row: row[:2]
    )


NAMES = ("imodel_id", "changeset_index", "changeset_id")


def as_object(data: Any) -> Any:
    return json.loads(data) if isinstance(data, str) else data


def table_of(output: Path) -> Any:
    if output.suffix == ".parquet":
        return pq.read_table(output)
    with pa.memory_map(str(output)) as file:
        return pa.ipc.open_file(file).read_all()


@pytest.mark.parametrize("name", ["all.jsonl", "all.ndjson", "all.parquet", "all.arrow"])
async def test_a_file_holds_every_entry_once(name, itwin, tmp_path):
    imodels = await every_imodel(itwin)
    exported = await export_extended_data(itwin, imodels, tmp_path / name)
    assert rows_of(tmp_path / name) == await held(itwin, imodels)
    assert exported.output == tmp_path / name
    assert (exported.rows, exported.bad, exported.imodels) == (6 * 25, 0, 6)
    assert exported.bad_rows is None
    assert {each.name for each in tmp_path.iterdir()} == {name, f"{name}.checkpoint"}


async def test_rows_of_an_imodel_keep_their_order(itwin, tmp_path):
    imodels = await every_imodel(itwin)
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", page_size=7)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    for imodel_id in imodels:
        indexes = [row["changeset_index"] for row in lines if row["imodel_id"] == imodel_id]
        assert indexes == sorted(indexes)
        assert len(indexes) == 25


async def test_imodels_may_be_found_on_the_way_and_twice(itwin, tmp_path):
    async def found() -> AsyncIterator[str]:
        for _ in range(2):
            async for imodel in itwin.imodels.list_imodels(ITWIN):
                yield imodel.id

    exported = await export_extended_data(itwin, found(), tmp_path / "a.jsonl")
    imodels = [imodel.id async for imodel in itwin.imodels.list_imodels(ITWIN)]
    assert rows_of(exported.output) == await held(itwin, imodels)
    assert exported.imodels == len(imodels)


async def test_one_id_is_one_imodel(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    exported = await export_extended_data(itwin, first, tmp_path / "a.jsonl")
    assert (exported.rows, exported.imodels) == (25, 1)


async def test_no_imodel_is_an_empty_file(itwin, tmp_path):
    await export_extended_data(itwin, [], tmp_path / "a.jsonl")
    await export_extended_data(itwin, [], tmp_path / "a.parquet")
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    assert table_of(tmp_path / "a.parquet").schema.names == [*NAMES, "data"]


def replace_payload(index: int, payload: Any) -> Edit:
    """The first page of a list with another payload at one place."""

    def edit(body: Any) -> Any:
        body["extendedData"][index]["data"] = payload
        return body

    return Edit(edit)


def encoded(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
async def test_a_payload_is_kept_as_it_came_in_one_line(name, emulator, itwin, tmp_path):
    payload = b'{\n "n": 1.50, "big": 123456789012345678901234567890,\r\n "s": "\xe2\x80\xa8\\n" }'
    emulator.faults.add("list_extended_data", replace_payload(2, encoded(payload)))
    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / name)
    kept = b'{"n":1.50,"big":123456789012345678901234567890,"s":"\xe2\x80\xa8\\n"}'
    if name == "a.jsonl":
        lines = (tmp_path / name).read_bytes().split(b"\n")
        assert len(lines) == 25 + 1
        assert lines[2].endswith(b'"data":' + kept + b"}")
    else:
        assert table_of(tmp_path / name)["data"][2].as_py() == kept.decode()


BAD = [
    ("%%%", "not base64", None),
    ({"a": [1]}, "not text but dict", None),
    (None, "no data", None),
    (encoded(b'{"n": nan}'), "does not decode", b'{"n": nan}'),
    (encoded(b"[1]"), "Expected `object`", b"[1]"),
    (encoded(b'{"a": "\xff"}'), "UTF-8", b'{"a": "\xff"}'),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize(("given", "reason", "payload"), BAD)
async def test_a_bad_payload_costs_itself_and_is_told(
    name, given, reason, payload, emulator, itwin, tmp_path
):
    emulator.faults.add("list_extended_data", replace_payload(3, given))
    (first, *_) = await every_imodel(itwin)
    exported = await export_extended_data(itwin, first, tmp_path / name)
    assert (exported.rows, exported.bad) == (24, 1)
    assert exported.bad_rows == tmp_path / f"{name}.bad.jsonl"
    (line,) = exported.bad_rows.read_text().splitlines()
    told = json.loads(line)
    assert (told["imodel_id"], told["changeset_index"]) == (first, 4)
    assert told["changeset_id"]
    assert reason in told["reason"]
    assert told["payload"] == (encoded(payload) if payload else None)
    assert told["data"] == (None if payload else given)  # what came is kept
    assert 4 not in [row[1] for row in rows_of(tmp_path / name)]

    # Once nothing is bad any more, neither is there a file that says so.
    again = await export_extended_data(itwin, first, tmp_path / name)
    assert (again.rows, again.bad, again.bad_rows) == (25, 0, None)
    assert not exported.bad_rows.exists()


class Changes(msgspec.Struct, rename="camel"):
    changed_files: list[str]
    task_id: str


class Payload(msgspec.Struct):
    data: Changes


async def test_a_struct_becomes_a_nested_column(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / "a.parquet", Payload)
    table = table_of(tmp_path / "a.parquet")
    files = pa.field("changedFiles", pa.list_(pa.string()))
    nested = pa.struct([files, pa.field("taskId", pa.string())])
    assert table.schema.field("data").type == pa.struct([pa.field("data", nested)])
    assert table["data"][0].as_py()["data"]["changedFiles"] == ["A.dgn", "B.dgn"]
    entries = [each async for each in itwin.imodels.list_extended_data(first, Payload)]
    assert table["data"].to_pylist() == [msgspec.to_builtins(entry.data) for entry in entries]


async def test_a_struct_in_json_lines_has_its_own_fields_alone(itwin, tmp_path):
    class Task(msgspec.Struct, rename="camel"):
        task_id: str

    class Wanted(msgspec.Struct):
        data: Task

    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / "a.jsonl", Wanted)
    line = (tmp_path / "a.jsonl").read_text().splitlines()[0]
    assert list(json.loads(line)["data"]["data"]) == ["taskId"]


class Leaf(msgspec.Struct, tag="leaf", tag_field="kind"):
    n: int


class Everything(msgspec.Struct):
    """A field of each kind that a column can be of, and some that none can."""

    when: datetime
    id: UUID
    flag: bool
    share: float
    numbers: list[int]
    maybe: int | None
    leaves: list[Leaf]
    by_name: dict[str, Leaf | None]
    either: int | str
    free: Any
    raw: dict[str, Any]
    inner: "Everything | None" = None
    absent: int | msgspec.UnsetType = msgspec.UNSET


EVERYTHING = {
    "when": "2025-01-02T03:04:05+01:00",
    "id": "5e19bee0-3aea-4355-a9f0-c6df9989ee7d",
    "flag": True,
    "share": 0.5,
    "numbers": [1, 2],
    "maybe": None,
    "leaves": [{"kind": "leaf", "n": 1}],
    "by_name": {"a": {"kind": "leaf", "n": 2}, "b": None},
    "either": "x",
    "free": [1, {"a": None}],
    "raw": {"a": 1},
}


async def test_every_kind_of_field_has_a_column(emulator, itwin, tmp_path):
    payload = {**EVERYTHING, "inner": EVERYTHING}

    def edit(body: Any) -> Any:
        for entry in body["extendedData"]:
            entry["data"] = encoded(json.dumps(payload).encode())
        return body

    emulator.faults.add("list_extended_data", Edit(edit), times=10)
    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / "a.parquet", Everything)
    table = table_of(tmp_path / "a.parquet")
    row = table["data"][0].as_py()
    assert row["when"] == datetime(2025, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert row["id"] == EVERYTHING["id"]
    assert (row["flag"], row["share"], row["numbers"], row["maybe"]) == (True, 0.5, [1, 2], None)
    assert row["leaves"] == [{"kind": "leaf", "n": 1}]
    assert row["by_name"] == [("a", {"kind": "leaf", "n": 2}), ("b", None)]
    assert row["either"] == "x"
    assert json.loads(row["free"]) == EVERYTHING["free"]
    assert row["raw"] is not None
    assert json.loads(row["inner"])["numbers"] == [1, 2]
    assert row["absent"] is None


async def test_a_value_that_fits_no_column_costs_its_own_row(emulator, itwin, tmp_path):
    class Count(msgspec.Struct):
        n: int

    def edit(body: Any) -> Any:
        for number, entry in enumerate(body["extendedData"]):
            n = 2**70 if number == 5 else number
            entry["data"] = encoded(json.dumps({"n": n}).encode())
        return body

    emulator.faults.add("list_extended_data", Edit(edit), times=10)
    (first, *_) = await every_imodel(itwin)
    exported = await export_extended_data(itwin, first, tmp_path / "a.parquet", Count)
    assert (exported.rows, exported.bad) == (24, 1)
    told = json.loads((tmp_path / "a.parquet.bad.jsonl").read_text())
    assert told["changeset_index"] == 6
    assert json.loads(base64.b64decode(told["payload"])) == {"n": 2**70}
    assert table_of(tmp_path / "a.parquet")["data"].to_pylist() == [
        {"n": n} for n in range(25) if n != 5
    ]


async def test_row_groups_are_bounded(itwin, tmp_path, monkeypatch):
    from itwin_async.export import _arrow  # noqa: PLC0415

    monkeypatch.setattr(_arrow, "_GROUP_ROWS", 40)
    monkeypatch.setattr(job, "_ROWS", 10)
    monkeypatch.setattr(lists, "PIECE_ROWS", 10)
    await export_extended_data(itwin, await every_imodel(itwin), tmp_path / "a.parquet")
    file = pq.ParquetFile(tmp_path / "a.parquet").metadata
    sizes = [file.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(sizes) == 150
    assert max(sizes) <= 40
    assert len(sizes) < 8  # and small parts are put together


async def test_progress_counts_up_to_the_end(itwin, tmp_path):
    told: list[ExportProgress] = []
    imodels = await every_imodel(itwin)
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", on_progress=told.append)
    assert told[-1] == ExportProgress(rows=150, bad=0, imodels=6, done=6, resumed=0)
    assert [each.rows for each in told] == sorted(each.rows for each in told)
    assert [each.done for each in told] == sorted(each.done for each in told)


# Faults


async def test_faults_on_the_way_are_survived(emulator, itwin, tmp_path):
    emulator.faults.add("list_extended_data", Reset(), after=1)
    emulator.faults.add("list_extended_data", Cut(500), after=3)
    imodels = await every_imodel(itwin)
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", page_size=10)
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)
    assert itwin.stats.retries == 2


async def test_an_error_ends_it_and_the_next_run_goes_on(emulator, itwin, tmp_path):
    imodels = await every_imodel(itwin)
    last = f"/imodels/{imodels[-1]}/"
    emulator.faults.add(lambda request: request.path.startswith(last), Status(404), times=None)
    with pytest.raises(NotFoundError):
        await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", workers=1)
    assert not (tmp_path / "a.jsonl").exists()
    emulator.faults.clear()
    before = emulator.count("list_extended_data")
    exported = await export_extended_data(itwin, imodels, tmp_path / "a.jsonl")
    assert exported.rows == 150
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)
    assert emulator.count("list_extended_data") - before == 1 + len(imodels)  # the last, and `held`


async def test_an_imodel_that_fails_may_be_left_out(emulator, itwin, tmp_path):
    imodels = await every_imodel(itwin)
    path = f"/imodels/{imodels[2]}/"
    emulator.faults.add(lambda request: request.path.startswith(path), Status(403), times=None)
    failed: list[tuple[str, Exception]] = []
    exported = await export_extended_data(
        itwin, imodels, tmp_path / "a.jsonl", on_error=lambda *failure: failed.append(failure)
    )
    assert [(imodel_id, error.status) for imodel_id, error in failed] == [(imodels[2], 403)]
    assert exported.rows == 125
    emulator.faults.clear()
    more = await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", since=0)
    assert more.rows == 150
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)


async def test_a_listener_that_raises_changes_nothing_and_is_logged_once(
    itwin, tmp_path, small_parts, caplog
):
    imodels = await every_imodel(itwin)

    def fail(progress: ExportProgress) -> None:
        raise LookupError("of the listener")

    exported = await export_extended_data(
        itwin, imodels, tmp_path / "a.jsonl", on_progress=fail, page_size=5
    )
    assert exported.rows == 150
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)
    assert caplog.text.count("on_progress failed") == 1
    assert caplog.text.count("LookupError: of the listener") == 1


async def test_a_handler_that_fails_ends_it_with_its_own_error(emulator, itwin, tmp_path):
    def fail(imodel_id: str, error: Exception) -> None:
        raise LookupError(imodel_id)

    emulator.faults.add("list_extended_data", Status(404), times=None)
    with pytest.raises(LookupError):
        await export_extended_data(
            itwin, await every_imodel(itwin), tmp_path / "a.jsonl", on_error=fail
        )


# Going on


async def stopped_after(rows: int, itwin, imodels, output, **options) -> int:
    """Cancel an export behind so many rows; how many requests it may have made."""
    with anyio.CancelScope() as scope:

        def look(progress: ExportProgress) -> None:
            if progress.rows >= rows:
                scope.cancel()

        await export_extended_data(itwin, imodels, output, on_progress=look, **options)
    assert scope.cancelled_caught
    assert not Path(output).exists()
    return itwin.stats.requests


@pytest.fixture
def small_parts(monkeypatch):
    """Store often, so that there is something to find again."""
    monkeypatch.setattr(job, "_ROWS", 8)
    monkeypatch.setattr(lists, "PIECE_ROWS", 4)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
@pytest.mark.parametrize("rows", [1, 9, 60, 149])
async def test_what_was_stored_is_not_read_again(
    name, rows, emulator, itwin, tmp_path, small_parts
):
    imodels = await every_imodel(itwin)
    output = tmp_path / name
    options: dict[str, Any] = {"page_size": 5, "workers": 3}
    await stopped_after(rows, itwin, imodels, output, **options)
    before = emulator.count("list_extended_data")
    told: list[ExportProgress] = []
    exported = await export_extended_data(
        itwin, imodels, output, on_progress=told.append, **options
    )
    assert exported.rows == 150
    assert rows_of(output) == await held(itwin, imodels)
    if rows > 8:
        assert told[-1].resumed > 0
        pages = emulator.count("list_extended_data") - before - len(imodels)
        assert pages <= (150 - told[-1].resumed) // 5 + 2 * 3 + len(imodels)


async def test_resume_off_begins_anew(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    await stopped_after(60, itwin, imodels, tmp_path / "a.jsonl")
    told: list[ExportProgress] = []
    await export_extended_data(
        itwin, imodels, tmp_path / "a.jsonl", resume=False, on_progress=told.append
    )
    assert told[-1].resumed == 0
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)


@pytest.mark.parametrize("torn", [1, 7, 40])
async def test_a_torn_line_of_the_journal_does_not_count(torn, itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(60, itwin, imodels, output)
    journal = tmp_path / "a.jsonl.parts" / "journal"
    journal.write_bytes(journal.read_bytes()[:-torn])
    await stopped_after(120, itwin, imodels, output)  # and lines are added behind the torn one
    await export_extended_data(itwin, imodels, output)
    assert rows_of(output) == await held(itwin, imodels)


async def test_a_part_that_no_line_names_does_not_count(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(60, itwin, imodels, output)
    parts = sorted((tmp_path / "a.jsonl.parts").glob("0*.jsonl"))
    stray = parts[-1].with_name(f"{int(parts[-1].stem) + 1:06}.jsonl")
    stray.write_bytes(parts[0].read_bytes())
    await export_extended_data(itwin, imodels, output)
    assert rows_of(output) == await held(itwin, imodels)


async def test_another_export_does_not_go_on_with_the_parts(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(60, itwin, imodels, output)
    for message, call in {
        "other iModels": {"imodel_ids": imodels[:2]},
        "data_type None, not ": {"imodel_ids": imodels, "data_type": Payload},
        "since None, not 3": {"imodel_ids": imodels, "since": 3},
    }.items():
        with pytest.raises(ValueError, match=message):
            await export_extended_data(itwin, output=output, **call)
    await export_extended_data(itwin, imodels, output)
    assert rows_of(output) == await held(itwin, imodels)


async def test_two_at_once_do_not_share_the_parts(itwin, tmp_path):
    imodels = await every_imodel(itwin)
    refused: list[str] = []

    async def second() -> None:
        with pytest.raises(RuntimeError) as caught:
            await export_extended_data(itwin, imodels, tmp_path / "a.jsonl")
        refused.append(str(caught.value))

    async def found() -> AsyncIterator[str]:
        await second()
        for each in imodels:
            yield each

    await export_extended_data(itwin, found(), tmp_path / "a.jsonl")
    assert refused == [f"another export to {tmp_path / 'a.jsonl'} is running"]
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)


async def test_a_finished_output_is_replaced_as_a_whole(itwin, tmp_path):
    imodels = await every_imodel(itwin)
    (tmp_path / "a.jsonl").write_text("before")
    await stopped_after_first(itwin, imodels, tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == "before"
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl")
    assert rows_of(tmp_path / "a.jsonl") == await held(itwin, imodels)


async def stopped_after_first(itwin, imodels, output):
    with anyio.CancelScope() as scope:
        await export_extended_data(itwin, imodels, output, on_progress=lambda _: scope.cancel())


# Since


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
async def test_since_adds_what_came_after(name, tmp_path):
    output = tmp_path / name
    async with (
        Emulator(imodels=4, changesets=30, seed=5) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        imodels = await every_imodel(itwin)
        await export_extended_data(itwin, imodels, output, page_size=10)
    async with (
        Emulator(imodels=4, changesets=47, seed=5) as grown,
        ITwinSession(grown.credentials, base_url=grown.url) as itwin,
    ):
        assert await every_imodel(itwin) == imodels
        exported = await export_extended_data(itwin, imodels, output, since=0, page_size=10)
        # From the page that held the last one stored: 30 are there, of 47.
        assert grown.count("list_extended_data") <= 3 * len(imodels)
        assert exported.rows == 4 * 47
        assert rows_of(output) == await held(itwin, imodels)
        again = await export_extended_data(itwin, imodels, output, since=0, page_size=10)
        assert again.rows == 4 * 47
        assert rows_of(output) == await held(itwin, imodels)


async def test_since_without_an_output_leaves_out_what_was_before(itwin, tmp_path):
    imodels = await every_imodel(itwin)
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", since=20)
    expected = [row for row in await held(itwin, imodels) if row[1] > 20]
    assert rows_of(tmp_path / "a.jsonl") == expected
    assert len(expected) == 6 * 5


async def test_since_needs_to_know_what_it_adds_to(itwin, tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"cannot be added to without a\.jsonl\.checkpoint"):
        await export_extended_data(itwin, [], tmp_path / "a.jsonl", since=0)
    assert (tmp_path / "a.jsonl").read_text() == "{}\n"


async def test_since_adds_only_rows_of_the_same_kind(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / "a.parquet", Payload)
    with pytest.raises(ValueError, match="is not an export of this kind"):
        await export_extended_data(itwin, first, tmp_path / "a.parquet", Changes, since=0)


async def test_bad_rows_are_kept_when_rows_are_added(emulator, itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    emulator.faults.add("list_extended_data", replace_payload(3, "%%%"))
    await export_extended_data(itwin, first, tmp_path / "a.jsonl")
    more = await export_extended_data(itwin, first, tmp_path / "a.jsonl", since=0)
    assert (more.rows, more.bad) == (24, 1)
    assert len((tmp_path / "a.jsonl.bad.jsonl").read_text().splitlines()) == 1


# What cannot be


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        ({"output": "a.csv"}, ValueError, r"output must end in \.jsonl.*, not a\.csv"),
        ({"output": "a", "format": "csv"}, ValueError, "format must be one of jsonl, parquet"),
        ({"since": "3"}, TypeError, "since must be an index, not str"),
        ({"since": True}, TypeError, "since must be an index, not bool"),
        ({"page_size": 0}, ValueError, "page_size"),
        ({"workers": 0}, ValueError, "workers"),
        ({"imodel_ids": ["a", 3]}, TypeError, "imodel_id must be a str"),
        ({"imodel_ids": [""]}, ValueError, "imodel_id"),
        ({"data_type": list[int]}, TypeError, "data_type"),
    ],
)
async def test_what_cannot_be_is_told_before_anything_is_sent(
    call, kind, message, emulator, itwin, tmp_path
):
    output = tmp_path / call.pop("output", "a.jsonl")
    with pytest.raises(kind, match=message):
        await export_extended_data(itwin, output=output, **{"imodel_ids": "x", **call})
    assert not emulator.requests
    assert not list(tmp_path.iterdir())


async def test_a_directory_is_no_output(itwin, tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(ValueError, match="is a directory"):
        await export_extended_data(itwin, [], tmp_path / "a.jsonl")
    with pytest.raises(FileNotFoundError):
        await export_extended_data(itwin, [], tmp_path / "missing" / "a.jsonl")


async def test_a_platform_that_is_away_is_its_own_error(tmp_path):
    async with Emulator() as emulator:
        pass
    async with ITwinSession(
        emulator.credentials, base_url=emulator.url, retry=Retry(2, base=0.001)
    ) as itwin:
        with pytest.raises(TransportError):
            await export_extended_data(itwin, ["x"], tmp_path / "a.jsonl")


class Mixed(msgspec.Struct, omit_defaults=True):
    """What a struct leaves out, and JSON that it keeps as it came."""

    raw: msgspec.Raw
    content: bytearray
    count: int = 3
    tags: list[str] = msgspec.field(default_factory=lambda: ["a"])


def every_payload(payload: bytes) -> Edit:
    def edit(body: Any) -> Any:
        for entry in body["extendedData"]:
            entry["data"] = encoded(payload)
        return body

    return Edit(edit)


async def test_what_a_struct_leaves_out_is_its_default(emulator, itwin, tmp_path):
    payload = b'{"raw": {"x":\n 1.50}, "content": "YWJj", "count": 3}'
    emulator.faults.add("list_extended_data", every_payload(payload), times=2)
    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / "a.parquet", Mixed)
    row = table_of(tmp_path / "a.parquet")["data"][0].as_py()
    assert (row["content"], row["count"], row["tags"]) == (b"abc", 3, ["a"])
    assert json.loads(row["raw"]) == {"x": 1.5}
    await export_extended_data(itwin, first, tmp_path / "a.jsonl", Mixed)
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert len(lines) == 25
    assert '"raw":{"x":1.50}' in lines[0]


async def test_raw_is_what_no_type_is(emulator, itwin, tmp_path):
    payload = b'{"a":\n 1}'
    emulator.faults.add("list_extended_data", every_payload(payload), times=1)
    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / "a.jsonl", msgspec.Raw)
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["data"] for line in lines] == [{"a": 1}] * 25


# Cancelled, and errors of the caller's own


class Gate:
    """Holds a function in its thread until it is opened."""

    def __init__(self, monkeypatch, owner, name: str) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        act = getattr(owner, name)

        def held(*args, **kwargs):
            self.reached.set()
            assert self.open.wait(30)
            return act(*args, **kwargs)

        monkeypatch.setattr(owner, name, held)


@pytest.mark.parametrize("name", ["open", "store", "finish"])
@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_while_a_thread_is_at_work(
    name, times, cancel_kind, itwin, tmp_path, monkeypatch, small_parts
):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.parquet"
    owner, what = (ArrowFile, "_batches") if name == "finish" else (Store, name)
    gate = Gate(monkeypatch, owner, what)
    running = Running(cancel_kind, export_extended_data(itwin, imodels, output, page_size=5))
    await until(gate.reached.is_set)
    for _ in range(times):
        running.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not running.done()  # it waits for its thread
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    exported = await export_extended_data(itwin, imodels, output, page_size=5)
    assert exported.rows == 150
    assert rows_of(output) == await held(itwin, imodels)


@pytest.mark.parametrize("when", ["waiting", "ready"])
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 13])
async def test_cancelled_at_any_await_it_loses_nothing(
    cancel_kind, when, step, itwin, tmp_path, monkeypatch, small_parts
):
    monkeypatch.setattr(job, "_SECONDS", 0.01)
    imodels = (await every_imodel(itwin))[:2]
    expected = await held(itwin, imodels)
    number = 0

    def output():
        return tmp_path / f"{number}.jsonl"

    def export():
        return export_extended_data(itwin, imodels, output(), page_size=9)

    async def check(of: int) -> None:
        nonlocal number
        await export()
        assert rows_of(output()) == expected
        assert not list(tmp_path.glob("*.parts"))
        number = of + 1

    awaits, exported = await cancelled_at_each_await(
        cancel_kind, export, check, when=when, step=step
    )
    assert awaits > 20
    assert exported.rows == 50


async def test_a_time_out_of_the_callers_own_ends_it(emulator, itwin, tmp_path):
    imodels = await every_imodel(itwin)

    async def ids() -> AsyncIterator[str]:
        yield imodels[0]
        raise TimeoutError

    def fail(*_: object) -> None:
        raise TimeoutError

    output = tmp_path / "a.jsonl"
    emulator.faults.add(
        lambda request: request.path.startswith(f"/imodels/{imodels[1]}/"), Status(404), times=None
    )
    async with asyncio.timeout(30):
        for call in (
            {"imodel_ids": ids()},
            {"imodel_ids": imodels[1:2], "on_error": fail},
        ):
            with pytest.raises(TimeoutError):
                await export_extended_data(itwin, output=output, resume=False, **call)


# What belongs together


async def test_parts_of_what_is_not_asked_for_do_not_slip_in(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)

    async def found(some: list[str]) -> AsyncIterator[str]:
        for each in some:
            yield each

    output = tmp_path / "a.jsonl"
    await stopped_after(20, itwin, found(imodels[:3]), output)
    with pytest.raises(ValueError, match=r"also holds rows of .*, which was not asked for now"):
        await export_extended_data(itwin, found(imodels[3:]), output)
    await export_extended_data(itwin, found(imodels), output)
    assert rows_of(output) == await held(itwin, imodels)


async def test_parts_of_another_platform_do_not_slip_in(itwin, tmp_path, small_parts):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(20, itwin, imodels, output)
    async with ITwinSession(StaticToken("t"), base_url="https://api.bentley.com") as other:
        with pytest.raises(ValueError, match=r"platform loopback, not https://api\.bentley\.com"):
            await export_extended_data(other, imodels, output)


async def test_a_struct_with_other_fields_is_another_export(itwin, tmp_path, small_parts):
    def made(*fields: str) -> Any:
        inner = msgspec.defstruct("Inner", [(each, Any) for each in fields])
        return msgspec.defstruct("Outer", [("data", inner)], module="m")

    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(20, itwin, imodels, output, data_type=made("taskId"))
    with pytest.raises(ValueError, match=r"data_type m\.Outer"):
        await export_extended_data(itwin, imodels, output, made("changedFiles"))


async def test_since_does_not_go_back(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await export_extended_data(itwin, first, output, since=20)
    with pytest.raises(ValueError, match="holds only what came after 20"):
        await export_extended_data(itwin, first, output, since=5)
    for _ in range(2):  # and it remembers so
        assert (await export_extended_data(itwin, first, output, since=22)).rows == 5
        with pytest.raises(ValueError, match="holds only what came after 20"):
            await export_extended_data(itwin, first, output, since=5)
    assert {each.name for each in tmp_path.iterdir()} == {"a.jsonl", "a.jsonl.checkpoint"}


async def test_since_adds_to_what_its_export_left_alone(emulator, itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    emulator.faults.add("list_extended_data", replace_payload(3, "%%%"))
    await export_extended_data(itwin, first, output)
    (tmp_path / "a.jsonl.bad.jsonl").rename(tmp_path / "bad")
    with pytest.raises(ValueError, match="is not what its export left"):
        await export_extended_data(itwin, first, output, since=0)
    (tmp_path / "bad").rename(tmp_path / "a.jsonl.bad.jsonl")
    with output.open("a") as file:
        file.write("hello\n")
    with pytest.raises(ValueError, match="is not what its export left"):
        await export_extended_data(itwin, first, output, since=0)
    (tmp_path / "a.jsonl.checkpoint").write_text("{}")
    with pytest.raises(ValueError, match=r"a\.jsonl\.checkpoint is not what this version wrote"):
        await export_extended_data(itwin, first, output, since=0)


async def test_what_is_added_to_is_read_in_groups(itwin, tmp_path, monkeypatch):
    from itwin_async.export import _arrow  # noqa: PLC0415

    monkeypatch.setattr(_arrow, "_GROUP_BYTES", 2_000)
    monkeypatch.setattr(job, "_ROWS", 10)
    monkeypatch.setattr(lists, "PIECE_ROWS", 10)
    output = tmp_path / "a.parquet"
    imodels = await every_imodel(itwin)
    await export_extended_data(itwin, imodels[:-1], output)
    await export_extended_data(itwin, imodels, output, since=0)
    file = pq.ParquetFile(output).metadata
    sizes = [file.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(sizes) == 150
    assert max(sizes) <= 20


async def test_a_link_leads_to_the_output_and_stays(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    (tmp_path / "real").mkdir()
    output = tmp_path / "a.jsonl"
    output.symlink_to(Path("real") / "b.jsonl")
    for since in (None, 0):
        exported = await export_extended_data(itwin, first, output, since=since)
        assert exported.output == tmp_path / "real" / "b.jsonl"
        assert output.is_symlink()
        assert len(output.read_text().splitlines()) == 25


async def test_a_device_is_no_output(itwin, tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="is a device"):
        await export_extended_data(itwin, [], tmp_path / "a.jsonl")


async def test_progress_is_not_awaited(itwin, tmp_path):
    async def tell(_: ExportProgress) -> None: ...

    for wrong in ({"on_progress": tell}, {"on_progress": 5}, {"on_error": tell}):
        with pytest.raises(TypeError, match=f"{next(iter(wrong))} must be a plain callable, not"):
            await export_extended_data(itwin, [], tmp_path / "a.jsonl", **wrong)


# What is kept


async def test_what_has_come_is_stored_and_told_while_nothing_more_comes(
    cancel_kind, emulator, itwin, tmp_path, monkeypatch
):
    """A pause of all lists is when a job gets stopped."""
    monkeypatch.setattr(job, "_SECONDS", 0.05)
    imodels = await every_imodel(itwin)
    emulator.faults.add("list_extended_data", Throttle(60), after=9, times=None)
    output = tmp_path / "a.jsonl"
    told: list[ExportProgress] = []
    running = Running(
        cancel_kind,
        export_extended_data(itwin, imodels, output, page_size=5, on_progress=told.append),
    )
    parts = tmp_path / "a.jsonl.parts"

    def stored() -> int:
        assert not running.done()
        return sum(len(part.read_bytes().splitlines()) for part in parts.glob("0*.jsonl"))

    await until(lambda: stored() >= 45)  # nine pages
    assert stored() == 45
    await until(lambda: told and told[-1].rows == 45)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancelled_export_keeps_what_has_come(emulator, itwin, tmp_path):
    imodels = await every_imodel(itwin)
    output = tmp_path / "a.jsonl"
    await stopped_after(25, itwin, imodels, output, page_size=5)
    told: list[ExportProgress] = []
    await export_extended_data(itwin, imodels, output, page_size=5, on_progress=told.append)
    assert told[-1].resumed >= 25
    assert rows_of(output) == await held(itwin, imodels)


async def test_what_came_before_an_error_is_in_the_output(emulator, itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    emulator.faults.add("list_extended_data", Status(404), after=3, times=None)
    failed: list[str] = []
    exported = await export_extended_data(
        itwin,
        first,
        tmp_path / "a.jsonl",
        page_size=5,
        on_error=lambda which, _: failed.append(which),
    )
    assert failed == [first]
    assert exported.rows == 15
