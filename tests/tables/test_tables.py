"""Any list becomes Arrow: columns of its records, batches of one schema, and no payload is lost."""

import asyncio
import gc
import json
import re
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from declared import OPERATIONS
from support import cancelled_at_each_await, until

from itwin_async import (
    Changeset,
    ChangesetLinks,
    IModel,
    ITwinSession,
    Link,
    NotFoundError,
    PayloadError,
    merged,
)
from itwin_async.emulator import Edit, Emulator, Status
from itwin_async.tables import BadRow, batches, table

ID = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"


class Changes(msgspec.Struct, rename="camel"):
    changed_files: list[str]
    task_id: str


class Payload(msgspec.Struct):
    data: Changes


def replace(index: int, payload: Any) -> Edit:
    def edit(body: Any) -> Any:
        body["extendedData"][index]["data"] = payload
        return body

    return Edit(edit)


async def test_columns_of_records_are_their_fields(itwin):
    imodels = [imodel async for imodel in itwin.imodels.list_imodels(ITWIN, representation=True)]
    found = await table(itwin.imodels.list_imodels(ITWIN, representation=True))
    assert tuple(found.column_names) == IModel.__struct_fields__
    rows = found.to_pylist()
    assert [row["id"] for row in rows] == [imodel.id for imodel in imodels]
    for row, imodel in zip(rows, imodels, strict=True):
        assert row["created_date_time"] == imodel.created_date_time
        assert imodel.extent is not None
        assert row["extent"]["south_west"] == {
            "latitude": imodel.extent.south_west.latitude,
            "longitude": imodel.extent.south_west.longitude,
        }
    assert found.schema.field("created_date_time").type == pa.timestamp("us", tz="UTC")


async def test_signed_links_are_asked_for(itwin):
    changesets = itwin.imodels.list_changesets(ID, representation=True)
    links = (await table(changesets)).schema.field("links").type
    assert links.get_field_index("download") == -1
    assert links.get_field_index("self_") >= 0
    link = ChangesetLinks(download=Link(href="https://storage.example/x?signature=1"))
    changeset = Changeset(id="a", index=1, links=link)
    assert "signature" not in str((await table(items_of(changeset))).to_pylist())
    signed = await table(items_of(changeset), signed_links=True)
    assert signed.to_pylist()[0]["links"]["download"]["href"] == link.download.href


async def test_payloads_are_text_without_a_type_and_nested_with_one(itwin):
    entries = [entry async for entry in itwin.imodels.list_extended_data(ID)]
    text = await table(itwin.imodels.list_extended_data(ID))
    nested = await table(itwin.imodels.list_extended_data(ID, Payload))
    names = ["imodel_id", "changeset_index", "changeset_id", "data"]
    assert text.column_names == nested.column_names == names
    assert text.schema.field("data").type == pa.string()
    for found, read in ((text, json.loads), (nested, lambda data: data)):
        assert [
            (row["imodel_id"], row["changeset_index"], row["changeset_id"], read(row["data"]))
            for row in found.to_pylist()
        ] == [
            (entry.imodel_id, entry.changeset_index, entry.changeset_id, entry.data)
            for entry in entries
        ]


async def test_batches_have_one_schema_and_at_most_so_many_rows(itwin):
    found = batches(itwin.imodels.list_extended_data(ID, page_size=7), 10)
    sizes = [(batch.num_rows, batch.schema == found.schema) async for batch in found]
    assert sizes == [(10, True), (10, True), (5, True)]
    with pytest.raises(StopAsyncIteration):
        await anext(found)


async def test_large_payloads_make_smaller_batches(itwin, monkeypatch):
    monkeypatch.setattr("itwin_async.tables._MAX_BYTES", 500)
    sizes = [batch.num_rows async for batch in batches(itwin.imodels.list_extended_data(ID))]
    assert sum(sizes) == 25
    assert len(sizes) > 3


async def test_a_list_with_nothing_in_it_has_columns(itwin):
    found = await table(itwin.imodels.list_imodels(ITWIN, search="no such name"))
    assert (found.num_rows, tuple(found.column_names)) == (0, IModel.__struct_fields__)


async def test_lists_without_a_type_have_the_columns_of_their_keys(itwin):
    projects = itwin.list("/itwins/", items="iTwins")
    found = await table(projects)
    assert {"id", "displayName"} <= set(found.column_names)
    assert found.to_pylist() == [project async for project in projects]
    rows = itwin.packages.list_entities(ITWIN, "SAP_WORK_ORDERS", "SAP_Work_Orders_Read")
    expected = [row async for row in rows]
    assert (await table(rows)).to_pylist() == expected


async def items_of(*items: Any) -> Any:
    for item in items:
        yield item


async def test_dicts_with_other_keys_are_never_cut():
    mixed = [{"a": 1}, {"a": None, "b": "x"}, {"a": 1.5}]
    found = await table(items_of(*mixed))
    assert found.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}, {"a": 1.5, "b": None}]
    found = batches(items_of(*mixed), 1)
    assert (await anext(found)).to_pylist() == [{"a": 1}]
    with pytest.raises(ValueError, match="b is string in a later one"):
        await anext(found)
    with pytest.raises(ValueError, match="no columns that fit"):
        await table(items_of({"a": 1}, {"a": "x"}))


async def test_dicts_of_many_batches_are_one_table(monkeypatch):
    monkeypatch.setattr("itwin_async.tables._ROWS", 1)
    found = await table(items_of({"a": None}, {"a": 1, "b": [{"c": 1}]}))
    assert found.to_pylist() == [{"a": None, "b": None}, {"a": 1, "b": [{"c": 1}]}]


async def test_items_without_fields_are_one_column():
    assert (await table(items_of("a", "b"))).to_pylist() == [{"value": "a"}, {"value": "b"}]
    assert (await table(items_of())).num_rows == 0


async def test_structs_of_a_caller_are_named_by_their_attributes(itwin):
    class Project(msgspec.Struct, rename="camel"):
        id: str
        display_name: str

    found = await table(itwin.list("/itwins/", items="iTwins", returns=Project))
    assert found.column_names == ["id", "display_name"]


async def test_a_value_beyond_its_column_is_named(itwin):
    class Moment(msgspec.Struct):
        when: datetime

    with pytest.raises(ValueError, match="when: 2025-01-02T00:00:00 has no offset"):
        await table(items_of(Moment(datetime(2025, 1, 2))))  # noqa: DTZ001 - the case


async def test_several_lists_are_one_table(itwin):
    ids = [imodel.id async for imodel in itwin.imodels.list_imodels(ITWIN)]
    async with merged(itwin.imodels.list_extended_data(id, Payload) for id in ids) as entries:
        found = await table(entries)
    assert found.num_rows == 25 * len(ids)
    assert pa.types.is_struct(found.schema.field("data").type)


# Bad payloads


@pytest.mark.parametrize("kind", [None, Payload])
async def test_a_bad_payload_is_set_aside_where_asked_for(kind, emulator, itwin):
    emulator.faults.add("list_extended_data", replace(2, "not base64!"))
    bad: list[BadRow] = []
    found = await table(itwin.imodels.list_extended_data(ID, kind), bad=bad)
    assert found.num_rows == 24
    assert [(row.imodel_id, row.changeset_index, row.data) for row in bad] == [
        (ID, 3, "not base64!")
    ]
    assert "base64" in bad[0].reason


@pytest.mark.parametrize("kind", [None, Payload])
async def test_a_bad_payload_is_raised_where_not(kind, emulator, itwin):
    emulator.faults.add("list_extended_data", replace(2, "not base64!"), times=2)
    found = batches(itwin.imodels.list_extended_data(ID, kind))
    assert (await anext(found)).num_rows == 2  # those before it
    with pytest.raises(PayloadError) as raised:
        await anext(found)
    assert raised.value.changeset_index == 3
    with pytest.raises(StopAsyncIteration):
        await anext(found)
    with pytest.raises(PayloadError):
        await table(itwin.imodels.list_extended_data(ID, kind))


class Dated(msgspec.Struct):
    when: datetime


DATED = msgspec.json.encode({"when": "2025-01-02T00:00:00"})


@pytest.mark.parametrize("aside", [True, False])
async def test_a_value_that_its_column_cannot_hold_is_bad(aside, emulator, itwin):
    def edit(body: Any) -> Any:
        good = msgspec.json.encode({"when": "2025-01-02T00:00:00Z"})
        for index, entry in enumerate(body["extendedData"]):
            entry["data"] = msgspec.to_builtins(DATED if index == 4 else good)
        return body

    emulator.faults.add("list_extended_data", Edit(edit))
    bad: list[BadRow] = []
    found = batches(itwin.imodels.list_extended_data(ID, Dated), bad=bad if aside else None)
    assert (await anext(found)).num_rows == 24
    if aside:
        assert [(row.changeset_index, row.payload) for row in bad] == [(5, DATED)]
        assert "when" in bad[0].reason
    else:
        with pytest.raises(PayloadError, match="when") as raised:
            await anext(found)
        assert raised.value.changeset_index == 5


# Ends


async def test_a_list_that_fails_gives_its_rows_first(emulator, itwin):
    emulator.faults.add("list_extended_data", Status(404), after=1)
    found = batches(itwin.imodels.list_extended_data(ID, page_size=10))
    assert (await anext(found)).num_rows == 10
    with pytest.raises(NotFoundError):
        await anext(found)


async def test_left_early_or_closed_nothing_stays_open(emulator, itwin):
    async for batch in batches(itwin.imodels.list_extended_data(ID, page_size=5), 2):
        assert batch.num_rows == 2
        break
    gc.collect()
    await until(lambda: itwin.limiter.in_use == 0)
    found = batches(itwin.imodels.list_extended_data(ID, page_size=5), 2)
    await anext(found)
    await found.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(found)


async def test_cancelled_anywhere_it_ends(cancel_kind, emulator, itwin):
    async def read() -> int:
        return (await table(itwin.imodels.list_extended_data(ID, page_size=10))).num_rows

    async def check(_: int) -> None:
        await until(lambda: itwin.limiter.in_use == 0)

    awaits, rows = await cancelled_at_each_await(cancel_kind, read, check)
    assert rows == 25
    assert awaits > 3


async def test_batches_that_were_cancelled_say_so(emulator, itwin):
    found = batches(itwin.imodels.list_extended_data(ID, page_size=10))
    task = asyncio.ensure_future(anext(found))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(RuntimeError, match="cancelled"):
        await anext(found)


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (([],), {}, TypeError),
        ((items_of(), 0), {}, ValueError),
        ((items_of(), True), {}, TypeError),
        ((items_of(),), {"bad": ()}, TypeError),
        ((items_of(),), {"signed_links": 1}, TypeError),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments, options, error):
    with pytest.raises(error):
        batches(*arguments, **options)


def test_a_list_that_was_read_is_refused_with_what_is_taken():
    with pytest.raises(TypeError, match=r"such as itwin\.itwins\.list_itwins\(\), not list$"):
        batches([])


OWN = {"list_extended_data", "list_entities"}  # whose items depend on the call
LISTS = {
    name: operation
    for name, operation in OPERATIONS.items()
    if hasattr(operation.returns, "entries") and name not in OWN
}


@pytest.mark.parametrize("operation", LISTS.values(), ids=LISTS)
async def test_each_list_of_records_has_columns(operation, itwin):
    names = dict.fromkeys(re.findall(r"{(\w+)}", operation.path), "x")
    pager = itwin.imodels._list(operation.request(**names))
    kind = pager.item_type
    shown = [name for name in kind.__struct_fields__ if name not in kind._signed]
    assert batches(pager).schema.names == shown


async def test_items_have_a_type(itwin: ITwinSession, emulator: Emulator):
    assert itwin.imodels.list_imodels(ITWIN).item_type is IModel
    assert itwin.list("/itwins/", items="iTwins").item_type is dict
    assert itwin.packages.list_entities(ITWIN, "P", "S", Payload).item_type is Payload
    entries = itwin.imodels.list_extended_data(ID, Payload)
    assert entries.item_type.__args__ == (Payload,)
    assert (await anext(aiter(entries))).data_type is Payload
