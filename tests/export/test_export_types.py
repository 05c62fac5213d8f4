"""Types of payloads become columns, nested and with defaults."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
from exports import Payload, encoded, every_imodel, table_of

from itwin_async.emulator import Edit
from itwin_async.export import export_extended_data


async def test_a_struct_becomes_a_nested_column(itwin, tmp_path):
    (first, *_) = await every_imodel(itwin)
    await export_extended_data(itwin, first, tmp_path / "a.parquet", Payload)
    table = table_of(tmp_path / "a.parquet")
    files = pa.field("changedFiles", pa.list_(pa.string()))
    nested = pa.struct([files, pa.field("taskId", pa.string())])
    assert table.schema.field("data").type == pa.struct([pa.field("data", nested)])
    assert table["data"][0].as_py()["data"]["changedFiles"] == ["A.dgn", "B.dgn"]
    entries = [item async for item in itwin.imodels.list_extended_data(first, Payload)]
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
    bad = json.loads((tmp_path / "a.parquet.bad.jsonl").read_text())
    assert bad["changeset_index"] == 6
    assert json.loads(base64.b64decode(bad["payload"])) == {"n": 2**70}
    assert table_of(tmp_path / "a.parquet")["data"].to_pylist() == [
        {"n": n} for n in range(25) if n != 5
    ]


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
