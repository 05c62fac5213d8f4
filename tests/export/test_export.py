"""An export is one file with every entry once, in each format, whatever the payloads hold."""

import json
import os
from collections.abc import AsyncIterator

import pyarrow.parquet as pq
import pytest
from exports import (
    ITWIN,
    NAMES,
    encoded,
    every_imodel,
    held,
    replace_payload,
    rows_of,
    small_parts,
    table_of,
)

from itwin_async import ITwinSession, NotFoundError, Retry, TransportError
from itwin_async.emulator import Cut, Emulator, Reset, Status
from itwin_async.export import ExportProgress, export_extended_data
from itwin_async.export import _job as job
from itwin_async.export import _lists as lists

__all__ = ["small_parts"]  # fixtures


@pytest.mark.parametrize("name", ["all.jsonl", "all.ndjson", "all.parquet", "all.arrow"])
async def test_a_file_holds_every_entry_once(name, itwin, tmp_path):
    imodels = await every_imodel(itwin)
    exported = await export_extended_data(itwin, imodels, tmp_path / name)
    assert rows_of(tmp_path / name) == await held(itwin, imodels)
    assert exported.output == tmp_path / name
    assert (exported.rows, exported.bad, exported.imodels) == (6 * 25, 0, 6)
    assert exported.bad_rows is None
    assert {item.name for item in tmp_path.iterdir()} == {name, f"{name}.checkpoint"}


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
@pytest.mark.parametrize(("data", "reason", "payload"), BAD)
async def test_a_bad_payload_costs_itself_and_is_reported(
    name, data, reason, payload, emulator, itwin, tmp_path
):
    emulator.faults.add("list_extended_data", replace_payload(3, data))
    (first, *_) = await every_imodel(itwin)
    exported = await export_extended_data(itwin, first, tmp_path / name)
    assert (exported.rows, exported.bad) == (24, 1)
    assert exported.bad_rows == tmp_path / f"{name}.bad.jsonl"
    (line,) = exported.bad_rows.read_text().splitlines()
    bad = json.loads(line)
    assert (bad["imodel_id"], bad["changeset_index"]) == (first, 4)
    assert bad["changeset_id"]
    assert reason in bad["reason"]
    assert bad["payload"] == (encoded(payload) if payload else None)
    assert bad["data"] == (None if payload else data)  # what came is kept
    assert 4 not in [row[1] for row in rows_of(tmp_path / name)]

    # Once nothing is bad any more, neither is there a file that says so.
    again = await export_extended_data(itwin, first, tmp_path / name)
    assert (again.rows, again.bad, again.bad_rows) == (25, 0, None)
    assert not exported.bad_rows.exists()


async def test_row_groups_are_bounded(itwin, tmp_path, monkeypatch):
    from itwin_async.export import _arrow  # noqa: PLC0415

    monkeypatch.setattr(_arrow, "GROUP_ROWS", 40)
    monkeypatch.setattr(job, "STORE_ROWS", 10)
    monkeypatch.setattr(lists, "PIECE_ROWS", 10)
    await export_extended_data(itwin, await every_imodel(itwin), tmp_path / "a.parquet")
    file = pq.ParquetFile(tmp_path / "a.parquet").metadata
    sizes = [file.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(sizes) == 150
    assert max(sizes) <= 40
    assert len(sizes) < 8  # and small parts are put together


async def test_progress_counts_up_to_the_end(itwin, tmp_path):
    reports: list[ExportProgress] = []
    imodels = await every_imodel(itwin)
    await export_extended_data(itwin, imodels, tmp_path / "a.jsonl", on_progress=reports.append)
    assert reports[-1] == ExportProgress(rows=150, bad=0, imodels=6, done=6, resumed=0)
    assert [item.rows for item in reports] == sorted(item.rows for item in reports)
    assert [item.done for item in reports] == sorted(item.done for item in reports)


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


# What cannot be


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        ({"output": "a.csv"}, ValueError, r"output must end in \.jsonl.*, not a\.csv"),
        ({"output": "a", "format": "csv"}, ValueError, "format must be one of jsonl, parquet"),
        ({"since": "3"}, TypeError, "since must be an index or a date, not str"),
        ({"since": True}, TypeError, "since must be an index or a date, not bool"),
        ({"page_size": 0}, ValueError, "page_size"),
        ({"workers": 0}, ValueError, "workers"),
        ({"imodel_ids": ["a", 3]}, TypeError, "imodel_id must be a str"),
        ({"imodel_ids": [""]}, ValueError, "imodel_id"),
        ({"data_type": list[int]}, TypeError, "such as a msgspec.Struct or a dataclass, not list"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_sent(
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
    with pytest.raises(ValueError, match=r"output must end in .*, not \.$"):
        await export_extended_data(itwin, [], ".")


async def test_a_platform_that_is_away_is_its_own_error(tmp_path):
    async with Emulator() as emulator:
        pass
    async with ITwinSession(
        emulator.credentials, base_url=emulator.url, retry=Retry(2, base=0.001)
    ) as itwin:
        with pytest.raises(TransportError):
            await export_extended_data(itwin, ["x"], tmp_path / "a.jsonl")


async def test_a_device_is_no_output(itwin, tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="is a device"):
        await export_extended_data(itwin, [], tmp_path / "a.jsonl")


async def listen(_: ExportProgress) -> None: ...


@pytest.mark.parametrize(
    ("name", "value"), [("on_progress", listen), ("on_progress", 5), ("on_error", listen)]
)
async def test_a_listener_that_is_no_plain_callable_is_refused(itwin, tmp_path, name, value):
    with pytest.raises(TypeError, match=f"{name} must be a plain callable, not"):
        await export_extended_data(itwin, [], tmp_path / "a.jsonl", **{name: value})
