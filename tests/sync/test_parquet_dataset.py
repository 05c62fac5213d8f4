"""A data set: a commit is one file of one iModel, and only committed files lie in the directory."""

import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import (
    SCOPE,
    A,
    B,
    Files,
    Progress,
    bad,
    expected,
    files,
    row,
    stored,
    sync_rows,
)
from support import cancelled_at_each_await

from itwin_async.sync import ParquetDataset, Row
from itwin_async.sync import _dataset as dataset
from itwin_async.sync._checkpoint import Checkpoint
from itwin_async.sync._parts import merged_schema

CHECKPOINT = "checkpoint"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "changes"


def aside(home: Path) -> Path:
    return home.with_name(f"{home.name}.sync")


async def test_each_commit_is_a_file_of_one_imodel(home):
    async with ParquetDataset(home) as sink:
        assert await sink.checkpoint() is None
        progress = Progress()
        for imodel_id in (A, B):
            rows = [row(imodel_id, index) for index in (1, 2)]
            before = files(home)
            await sink.write(rows, progress.add(rows))
            assert len(files(home)) == len(before) + 1
        assert files(home) == [f"{B}.00001.parquet", f"{A}.00001.parquet"]
    assert stored(home) == expected(2)
    assert files(aside(home)) == ["checkpoint", "itwin-async-sync", "itwin-async-sync.lock"]
    table = pq.ParquetFile(home / f"{A}.00001.parquet").read()
    assert table.schema.remove_metadata() == pa.schema(
        [
            pa.field("imodel_id", pa.string(), nullable=False),
            pa.field("changeset_index", pa.int64(), nullable=False),
            pa.field("changeset_id", pa.string(), nullable=False),
            pa.field("data", pa.string(), nullable=False),
        ]
    )


async def test_it_goes_on_and_a_small_last_file_grows(home):
    for total in (2, 5, 6):
        await sync_rows(ParquetDataset(home), total)
        assert stored(home) == expected(total)
        assert len(files(home)) == 2


async def test_a_large_last_file_is_left_alone(home, monkeypatch):
    monkeypatch.setattr(dataset, "SMALL_ROWS", 4)
    await sync_rows(ParquetDataset(home), 20, (A,), step=3)
    assert stored(home) == expected(20, (A,))
    sizes = [pq.ParquetFile(home / name).metadata.num_rows for name in files(home)]
    assert sizes == [6, 6, 6, 2]
    monkeypatch.setattr(dataset, "SMALL_BYTES", 1)
    await sync_rows(ParquetDataset(home), 21, (A,), step=3)
    assert len(files(home)) == 5


async def test_a_file_that_grows_begins_as_it_was(home, monkeypatch):
    monkeypatch.setattr(dataset, "SMALL_GROUPS", 4)
    path, before = home / f"{A}.00001.parquet", b""
    for total in range(2, 9, 2):
        await sync_rows(ParquetDataset(home), total, (A,))
        found = path.read_bytes()
        assert found.startswith(before)
        assert stored(home) == expected(total, (A,))
        before = found
    await sync_rows(ParquetDataset(home), 10, (A,))
    assert path.read_bytes() == before  # it has enough row groups
    assert stored(home) == expected(10, (A,))


async def test_payloads_with_a_type_are_columns(home):
    await sync_rows(ParquetDataset(home), 3, make=lambda imodel, n: row(imodel, n, Files(n)))
    assert stored(home) == expected(3)
    kind = pq.read_schema(home / f"{A}.00001.parquet").field("data").type
    assert kind == pa.struct([("n", pa.int64())])


async def test_a_type_is_given_where_payloads_do_not_tell_it(home):
    await sync_rows(ParquetDataset(home, data_type=Files), 3)
    assert pq.read_schema(home / f"{A}.00001.parquet").field("data").type.num_fields == 1
    other = home.with_name("other")
    await sync_rows(ParquetDataset(other, data_type=msgspec.Raw), 3)
    assert pq.read_schema(other / f"{A}.00001.parquet").field("data").type == pa.string()


async def test_the_footers_decide_and_the_stored_checkpoint_is_a_hint(home):
    await sync_rows(ParquetDataset(home), 3)
    hint = aside(home) / CHECKPOINT
    for broken in (None, b"", b"no checkpoint", b"\xff"):
        if broken is None:
            hint.unlink()
        else:
            hint.write_bytes(broken)
        async with ParquetDataset(home) as sink:
            progress = Progress(await sink.checkpoint())
            assert (progress.rows(A), progress.rows(B)) == (3, 3)


async def test_the_hint_knows_imodels_without_rows_and_later_looks(home):
    async with ParquetDataset(home) as sink:
        progress = Progress()
        rows = [row(A, 1)]
        await sink.write(rows, progress.add(rows))
        progress.add([])
        progress.states[A].pushed = 17
        progress.states[B] = type(progress.states[A])(pushed=18)
        assert await sink.write([], str(progress)) is None
    async with ParquetDataset(home) as sink:
        found = Checkpoint.parse(await sink.checkpoint())
    assert found.imodel_ids == {A, B}
    assert (found.state(A).pushed, found.state(B).pushed) == (17, 18)


async def test_files_that_were_taken_away_are_read_again(home):
    await sync_rows(ParquetDataset(home), 3)
    (home / f"{A}.00001.parquet").unlink()
    await sync_rows(ParquetDataset(home), 3)
    assert stored(home) == expected(3)


async def test_an_older_hint_does_not_take_rows_back(home):
    await sync_rows(ParquetDataset(home), 2)
    old = (aside(home) / CHECKPOINT).read_bytes()
    await sync_rows(ParquetDataset(home), 4)
    (aside(home) / CHECKPOINT).write_bytes(old)
    await sync_rows(ParquetDataset(home), 4)
    assert stored(home) == expected(4)


async def test_a_hint_of_another_scope_is_ignored(home):
    await sync_rows(ParquetDataset(home), 2)
    (aside(home) / CHECKPOINT).write_text(str(Checkpoint(b"12345678", {})))
    async with ParquetDataset(home) as sink:
        assert Checkpoint.parse(await sink.checkpoint()).scope == SCOPE


async def test_rows_with_fewer_fields_than_the_files_cost_nothing_for_each_imodel(
    home, monkeypatch
):
    class Wide(msgspec.Struct):
        n: int
        more: str = "x"

    ids = tuple(f"{number:08}{A[8:]}" for number in range(6))
    wide = ParquetDataset(home, data_type=Wide)
    await sync_rows(
        wide, 1, ids, make=lambda imodel, index: row(imodel, index, {"n": index, "more": "y"})
    )
    merges = 0

    def count(known: Any, wanted: Any) -> Any:
        nonlocal merges
        merges += 1
        return merged_schema(known, wanted)

    monkeypatch.setattr(dataset, "merged_schema", count)
    await sync_rows(ParquetDataset(home, data_type=Files), 2, ids)
    assert merges <= len(ids) + len(ids)  # once with all files, and then with none
    assert stored(home) == expected(2, ids)


# Bad rows


def bad_rows(home: Path, imodel_id: str) -> list[int]:
    path = aside(home) / f"{imodel_id}.bad.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["changeset_index"] for line in lines]


async def test_bad_rows_lie_beside_with_their_reason(home):
    async with ParquetDataset(home) as sink:
        progress = Progress()
        rows = [row(A, 1), bad(A, 2), row(A, 3)]
        assert await sink.write(rows, progress.add(rows)) is None
        rows = [bad(A, 4)]
        assert await sink.write(rows, progress.add(rows)) is None
        rows = [bad(B, 1)]  # and no good one
        await sink.write(rows, progress.add(rows))
    assert stored(home) == [(A, 1), (A, 3)]
    assert bad_rows(home, A) == [2, 4]
    line = json.loads((aside(home) / f"{A}.bad.jsonl").read_text().splitlines()[0])
    assert line == {
        "imodel_id": A, "changeset_index": 2, "changeset_id": "c2",
        "reason": "its data is not base64", "payload": None, "data": "?",
    }  # fmt: skip
    async with ParquetDataset(home) as sink:
        progress = Progress(await sink.checkpoint())
    assert (progress.rows(A), progress.rows(B)) == (4, 1)


async def test_a_value_that_its_column_cannot_hold_is_put_aside(home):
    class Wide(msgspec.Struct):
        n: int

    async with ParquetDataset(home) as sink:
        rows = [row(A, 1, Wide(1)), row(A, 2, Wide(2**63)), bad(A, 3), row(A, 4, Wide(4))]
        assert await sink.write(rows, Progress().add(rows)) == 1
    assert stored(home) == [(A, 1), (A, 4)]
    assert sorted(bad_rows(home, A)) == [2, 3]


async def test_bad_rows_that_were_not_committed_are_removed(home):
    async with ParquetDataset(home) as sink:
        rows = [row(A, 1), bad(A, 2)]
        await sink.write(rows, Progress().add(rows))
    with (aside(home) / f"{A}.bad.jsonl").open("a") as file:
        file.write('{"of a commit": "that was killed"}\n')
    (aside(home) / f"{B}.bad.jsonl").write_text("{}\n")
    async with ParquetDataset(home):
        pass
    assert bad_rows(home, A) == [2]
    assert not (aside(home) / f"{B}.bad.jsonl").exists()


# Types that change


def with_data(data: Any, imodel_id: str, index: int) -> Row:
    return row(imodel_id, index, data)


class More(msgspec.Struct):
    n: int
    task: str | None = None


async def test_a_new_field_is_in_all_files_before_it_is_in_a_new_one(home, monkeypatch):
    monkeypatch.setattr(dataset, "SMALL_ROWS", 2)
    await sync_rows(ParquetDataset(home), 6, make=lambda imodel, n: row(imodel, n, Files(n)))
    assert len(files(home)) == 4
    await sync_rows(ParquetDataset(home), 7, make=lambda imodel, n: row(imodel, n, More(n, "t")))
    assert stored(home) == expected(7)
    schemas = {str(pq.read_schema(home / name).field("data").type) for name in files(home)}
    assert schemas == {"struct<n: int64, task: string>"}
    # A program that knows less than the files do writes null.
    await sync_rows(ParquetDataset(home), 8, make=lambda imodel, n: row(imodel, n, Files(n)))
    assert stored(home) == expected(8)
    tasks = {
        item["data"]["task"]
        for name in files(home)
        for item in pq.ParquetFile(home / name).read().to_pylist()
    }
    assert tasks == {None, "t"}


async def test_another_type_of_a_field_is_refused(home):
    await sync_rows(ParquetDataset(home), 2, make=lambda imodel, n: row(imodel, n, Files(n)))

    class Text(msgspec.Struct):
        n: str

    for data in (Text("1"), {"n": 1}):
        with pytest.raises(ValueError, match=r"data(\.n)? is .* in this data set"):
            await sync_rows(ParquetDataset(home), 3, make=partial(with_data, data))
    assert stored(home) == expected(2)
    await sync_rows(ParquetDataset(home), 3, make=lambda imodel, n: row(imodel, n, Files(n)))
    assert stored(home) == expected(3)


# Places


async def test_one_sync_at_a_time(home):
    async with ParquetDataset(home):
        with pytest.raises(RuntimeError, match="another sync"):
            async with ParquetDataset(home):
                pass
    async with ParquetDataset(home):
        pass


@pytest.mark.parametrize("name", ["mine.parquet", "notes.txt", f"{A}.00001.parquet"])
async def test_files_of_others_are_not_touched(name, home):
    home.mkdir()
    (home / name).write_bytes(b"mine")
    with pytest.raises(ValueError, match=name):
        async with ParquetDataset(home):
            pass
    assert (home / name).read_bytes() == b"mine"
    assert files(home) == [name]


async def test_another_parquet_file_in_a_data_set_is_told(home, caplog):
    await sync_rows(ParquetDataset(home), 2)
    (home / ".DS_Store").write_bytes(b"x")
    with caplog.at_level(logging.WARNING, "itwin_async"):
        await sync_rows(ParquetDataset(home), 3)
    assert ".DS_Store" in caplog.text
    pq.write_table(pa.table({"a": [1]}), home / "mine.parquet")
    with pytest.raises(ValueError, match=r"mine\.parquet"):
        await sync_rows(ParquetDataset(home), 3)


@pytest.mark.parametrize("beside", [False, True])
async def test_a_file_in_the_way_is_not_touched(beside, home):
    path = aside(home) if beside else home
    path.write_text("mine")
    with pytest.raises(ValueError, match="in the way"):
        async with ParquetDataset(home):
            pass
    assert path.read_text() == "mine"


async def test_a_sibling_of_others_is_not_touched(home):
    aside(home).mkdir()
    (aside(home) / "draft").write_text("mine")
    with pytest.raises(ValueError, match="was not made by a sync"):
        async with ParquetDataset(home):
            pass
    assert (aside(home) / "draft").read_text() == "mine"


async def test_a_link_to_a_directory_is_followed(home, tmp_path):
    (tmp_path / "disk").mkdir()
    home.symlink_to(tmp_path / "disk", target_is_directory=True)
    await sync_rows(ParquetDataset(home), 2)
    assert stored(tmp_path / "disk") == expected(2)
    assert (tmp_path / "disk.sync").is_dir()


async def test_a_file_url_is_a_path(home):
    await sync_rows(ParquetDataset(home.as_uri()), 2)
    assert stored(home) == expected(2)


async def test_ids_that_are_no_names_are_quoted(home):
    await sync_rows(ParquetDataset(home), 2, ("../x/\N{SNOWMAN}", "a b"))
    assert len(files(home)) == 2
    assert stored(home) == expected(2, ("../x/\N{SNOWMAN}", "a b"))


async def test_it_is_used_inside_its_block_and_once(home):
    sink = ParquetDataset(home)
    with pytest.raises(RuntimeError, match="not open"):
        await sink.checkpoint()
    async with sink:
        with pytest.raises(RuntimeError, match="open already"):
            await sink.__aenter__()
    await sync_rows(sink, 2)


@pytest.mark.parametrize("path", ["", "a\0b", 7, None])
def test_what_is_no_path_is_refused(path):
    with pytest.raises((TypeError, ValueError), match="path must be"):
        ParquetDataset(path)
    with pytest.raises(ValueError, match="expanduser"):
        ParquetDataset("~/changes")
    with pytest.raises(ValueError, match="storage_options"):
        ParquetDataset("x", storage_options={})


async def test_the_root_is_refused():
    with pytest.raises(ValueError, match="/ cannot be a data set"):
        async with ParquetDataset("/"):
            pass


async def test_a_path_that_is_not_utf8(tmp_path):
    home = tmp_path / os.fsdecode(b"caf\xe9")
    await sync_rows(ParquetDataset(home), 2)
    assert stored(home) == expected(2)


async def test_cancelled_anywhere_rows_are_there_once(cancel_kind, tmp_path):
    number = 0

    async def write() -> None:
        await sync_rows(ParquetDataset(tmp_path / str(number)), 3, step=2)

    async def check(at: int) -> None:
        nonlocal number
        home = tmp_path / str(number)
        found = stored(home) if home.exists() else []
        assert len(found) == len(set(found))
        assert set(found) <= set(expected(3))
        await write()
        assert stored(home) == expected(3)
        number += 1

    awaits, _ = await cancelled_at_each_await(cancel_kind, write, check)
    assert awaits > 5


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("changes",), {"storage_options": {"key": "canary-key"}}),
        ((5,), {"storage_options": {"key": "canary-key"}}),
        (("ftp://me:canary-key@host/\0",), {}),
    ],
)
def test_no_frame_of_a_refusal_shows_a_secret(arguments, options):
    with pytest.raises((TypeError, ValueError)):  # the suite looks for canaries in its frames
        ParquetDataset(*arguments, **options)


def test_a_data_set_shows_its_place():
    assert repr(ParquetDataset("changes")) == "ParquetDataset('changes')"
