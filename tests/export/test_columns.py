"""Each type that msgspec decodes has a column of its own kind, and no odd value costs the file."""

import base64
import enum
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import inspect

from itwin_async._rows.columns import column
from itwin_async.emulator import Edit
from itwin_async.export import export_extended_data

ID = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(msgspec.Struct):
    x: int


class Pair(NamedTuple):
    a: int
    b: str


@dataclass
class Part:
    when: timedelta


@dataclass
class Defaults:
    count: int = 3
    tags: list[str] = field(default_factory=lambda: ["a"])


class Typed(TypedDict):
    n: Decimal


def kind_of(data_type: Any) -> type:
    return type(inspect.type_info(data_type))


UTC_TIME = pa.timestamp("us", tz="UTC")
CASES: list[tuple[Any, str, Any, Any]] = [  # type, JSON, type in Arrow, value
    (None, "null", pa.null(), None),
    (str, '"a\\"b"', pa.string(), 'a"b'),
    (bool, "true", pa.bool_(), True),
    (int, "-9223372036854775808", pa.int64(), -(2**63)),
    (Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], "7", pa.int64(), 7),
    (float, "1", pa.float64(), 1.0),
    (Decimal, '"1.50"', pa.decimal128(38, 18), Decimal("1.50")),
    (Decimal, "0.1", pa.decimal128(38, 18), Decimal("0.1")),
    (bytes, '"AP8="', pa.binary(), b"\x00\xff"),
    (bytearray, '"AP8="', pa.binary(), b"\x00\xff"),
    (memoryview, '"AP8="', pa.binary(), b"\x00\xff"),
    (datetime, '"2025-01-02T03:04:05+01:00"', UTC_TIME, datetime(2025, 1, 2, 2, 4, 5, tzinfo=UTC)),
    (
        Annotated[datetime, msgspec.Meta(tz=True)],
        '"2025-01-02T03:04:05Z"',
        UTC_TIME,
        datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    ),
    (
        Annotated[datetime, msgspec.Meta(tz=False)],
        '"0001-01-01T00:00:00"',
        pa.timestamp("us"),
        datetime(1, 1, 1),  # noqa: DTZ001 - the case
    ),
    (date, '"0001-01-01"', pa.date32(), date(1, 1, 1)),
    (time, '"23:59:59.000001"', pa.time64("us"), time(23, 59, 59, 1)),
    (Annotated[time, msgspec.Meta(tz=True)], '"01:02:03+01:00"', pa.string(), "01:02:03+01:00"),
    (timedelta, '"P1DT0.5S"', pa.duration("us"), timedelta(days=1, milliseconds=500)),
    (UUID, f'"{ID}"', pa.string(), ID),
    (Colour, '"red"', pa.string(), "red"),
    (Level, "3", pa.int64(), 3),
    (Literal["a", "b"], '"b"', pa.string(), "b"),
    (Literal[1, 2], "2", pa.int64(), 2),
    (Literal["a"] | None, "null", pa.string(), None),
    (Literal["a", 1], '"a"', pa.string(), "a"),
    (Literal["a", 1], "1", pa.string(), "1"),
    (Decimal | None, "null", pa.decimal128(38, 18), None),
    (timedelta | None, '"PT1S"', pa.duration("us"), timedelta(seconds=1)),
    (int | float, "1.5", pa.float64(), 1.5),
    (int | str, '"x"', pa.string(), "x"),
    (int | Decimal | None, '"1.5"', pa.string(), "1.5"),
    (list[timedelta], '["PT1S"]', pa.list_(pa.duration("us")), [timedelta(seconds=1)]),
    (set[date], '["2025-01-02"]', pa.list_(pa.date32()), [date(2025, 1, 2)]),
    (frozenset[int], "[1]", pa.list_(pa.int64()), [1]),
    (Collection[int], "[1]", pa.list_(pa.int64()), [1]),
    (tuple[int, ...], "[1]", pa.list_(pa.int64()), [1]),
    (tuple[int, str], '[1,"a"]', pa.string(), '[1,"a"]'),
    (Pair, '[1,"a"]', pa.string(), '[1,"a"]'),
    (
        dict[str, Decimal],
        '{"a":1.5}',
        pa.map_(pa.string(), pa.decimal128(38, 18)),
        [("a", Decimal("1.5"))],
    ),
    (dict[int, str], '{"1":"a"}', pa.string(), '{"1":"a"}'),
    (Point, '{"x":1}', pa.struct([("x", pa.int64())]), {"x": 1}),
    (
        Part,
        '{"when":"PT1S"}',
        pa.struct([("when", pa.duration("us"))]),
        {"when": timedelta(seconds=1)},
    ),
    (
        Defaults,
        "{}",
        pa.struct([("count", pa.int64()), ("tags", pa.list_(pa.string()))]),
        {"count": 3, "tags": ["a"]},
    ),
    (Typed, '{"n":2}', pa.struct([("n", pa.decimal128(38, 18))]), {"n": Decimal(2)}),
    (Any, '{"a":1}', pa.string(), '{"a":1}'),
    (msgspec.Raw, '{"a": 1}', pa.string(), '{"a": 1}'),
]
# What no JSON is decoded to without a hook, what is not there in each version, and what is a base.
BESIDE = {"CustomType", "ExtType", "FrozenDictType", "CollectionType", "Metadata", "Type"}


def test_each_type_of_msgspec_has_a_case():
    """A new one makes this fail, and gets a column."""
    known = {
        name
        for name, value in vars(inspect).items()
        if isinstance(value, type) and issubclass(value, inspect.Type)
    }
    cases = {kind_of(case[0]).__name__ for case in CASES}
    assert cases | BESIDE >= known
    assert not cases & BESIDE


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
async def test_each_type_has_its_column(name, emulator, itwin, tmp_path):
    fields = [(f"f{index}", case[0]) for index, case in enumerate(CASES)]
    kind = msgspec.defstruct("Payload", fields)
    values = ",".join(f'"f{index}":{case[1]}' for index, case in enumerate(CASES))
    every_payload(emulator, lambda _: f"{{{values}}}")
    exported = await export_extended_data(itwin, ID, tmp_path / name, kind)
    assert (exported.rows, exported.bad) == (25, 0)
    table = read(tmp_path / name)
    row = table["data"][0].as_py()
    for index, (_, _, arrow, value) in enumerate(CASES):
        assert table.schema.field("data").type.field(f"f{index}").type == arrow, CASES[index]
        assert row[f"f{index}"] == value, CASES[index]


def test_what_has_no_column_is_loud():
    class New(inspect.Type):
        pass

    with pytest.raises(TypeError, match="no column is known for New of msgspec"):
        column(New())


def every_payload(emulator, payload) -> None:
    def edit(body: Any) -> Any:
        for index, entry in enumerate(body["extendedData"]):
            entry["data"] = base64.b64encode(payload(index).encode()).decode()
        return body

    emulator.faults.add("list_extended_data", Edit(edit), times=None)


def read(output) -> Any:
    if output.suffix == ".parquet":
        return pq.read_table(output)
    with pa.OSFile(str(output)) as file:
        return pa.ipc.open_file(file).read_all()


@pytest.mark.parametrize(
    ("kind", "good", "odd", "reason"),
    [
        (int, "1", str(2**70), f"data.value: {2**70} does not fit int64"),
        (Literal[1, 2], "1", "3", "Invalid enum value 3"),
        (Decimal, "1", '"1E-30"', "data.value: Rescaling Decimal value would cause data loss"),
        (Decimal, "1", '"NaN"', "data.value: "),
        (timedelta, '"PT1S"', '"P999999999D"', "data.value: Timedelta too large"),
        (
            datetime,
            '"2025-01-02T03:04:05Z"',
            '"0001-01-01T00:00:00+01:00"',
            "value: 0001-01-01T00:00:00+01:00 lies beyond the calendar in UTC",
        ),
        (
            datetime | None,
            "null",
            '"9999-12-31T23:59:59-01:00"',
            "value: 9999-12-31T23:59:59-01:00 lies beyond the calendar in UTC",
        ),
        (
            datetime,
            '"2025-01-02T03:04:05Z"',
            '"2025-01-02T03:04:05"',
            "and its column is in UTC: declare the field as Annotated[datetime, msgspec.Meta(tz=F",
        ),
        (time, '"01:02:03"', '"01:02:03+01:00"', "value: 01:02:03+01:00 has an offset"),
        (int | float, "1", str(2**53 + 1), "data.value: Integer value 9007199254740993"),
        (list[int], "[1]", f"[1, {2**63}]", f"data.value.1: {2**63} does not fit int64"),
        (dict[str, int], '{"a": 1}', f'{{"b": {2**63}}}', f"data.value.b: {2**63} does not fit"),
    ],
)
async def test_an_odd_value_costs_its_row_alone(kind, good, odd, reason, emulator, itwin, tmp_path):
    payload = msgspec.defstruct("Payload", [("value", kind)])
    every_payload(emulator, lambda index: f'{{"value": {odd if index == 5 else good}}}')
    output = tmp_path / "a.parquet"
    exported = await export_extended_data(itwin, ID, output, payload)
    assert exported.rows == len(read(output)["data"].to_pylist()) == 24
    assert exported.bad_rows is not None
    bad = json.loads(exported.bad_rows.read_text())
    assert reason in bad["reason"]
    assert base64.b64decode(bad["payload"]).decode() == f'{{"value": {odd}}}'


async def test_an_index_beyond_64_bits_is_named(emulator, itwin, tmp_path):
    def edit(body: Any) -> Any:
        body["extendedData"][3]["changesetIndex"] = 2**70
        return body

    emulator.faults.add("list_extended_data", Edit(edit))
    exported = await export_extended_data(itwin, ID, tmp_path / "a.parquet")
    assert (exported.rows, exported.bad) == (24, 1)
    assert exported.bad_rows is not None
    bad = json.loads(exported.bad_rows.read_text())
    assert f"changeset_index: {2**70} does not fit int64" in bad["reason"]
    assert bad["changeset_index"] == 2**70
