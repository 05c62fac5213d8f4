"""Operations of iModels against the emulated platform."""

import base64
import json
import pickle
from dataclasses import dataclass
from typing import TypedDict

import msgspec
import pytest
from known import IMODEL, ITWIN, Files, every, first

from itwin_async import (
    ConflictError,
    DecodeError,
    ExtendedData,
    ITwinError,
    ServerError,
    TransportError,
)
from itwin_async.emulator import Reset, Status


async def test_list_imodels_gives_ids_and_names(itwin):
    found = await every(itwin.imodels.list_imodels(ITWIN, page_size=2))
    assert len(found) == 6
    assert found[0].display_name == "Sun City Renewable-energy Plant"
    assert found[0].itwin_id is None


async def test_list_imodels_gives_everything_by_representation(itwin):
    found = await every(itwin.imodels.list_imodels(ITWIN, representation=True, page_size=2))
    assert {item.itwin_id for item in found} == {ITWIN}
    assert found[0].extent.south_west.latitude < found[0].extent.north_east.latitude
    assert found[0].created_date_time.tzinfo


async def test_list_imodels_filters_and_orders(itwin):
    name = "Sun City Renewable-energy Plant"
    assert [i.id for i in await every(itwin.imodels.list_imodels(ITWIN, name=name))] == [IMODEL]
    assert [i.id for i in await every(itwin.imodels.list_imodels(ITWIN, search="sun c"))] == [
        IMODEL
    ]
    assert not await every(itwin.imodels.list_imodels(ITWIN, state="notInitialized"))
    names = [
        i.display_name for i in await every(itwin.imodels.list_imodels(ITWIN, order_by="name desc"))
    ]
    assert names == sorted(names, reverse=True)


async def test_get_imodel_gives_the_whole_of_it(itwin):
    imodel = await itwin.imodels.get_imodel(IMODEL)
    assert (imodel.id, imodel.itwin_id, imodel.state) == (IMODEL, ITWIN, "initialized")
    assert imodel.links.changesets.href.endswith("/changesets")


async def test_list_changesets_gives_them_in_order(itwin):
    found = await every(itwin.imodels.list_changesets(IMODEL, page_size=10))
    assert [item.index for item in found] == list(range(1, 26))
    assert [item.parent_id for item in found[1:]] == [item.id for item in found[:-1]]
    assert found[0].application is None


async def test_list_changesets_gives_a_part_of_them(itwin):
    part = itwin.imodels.list_changesets(IMODEL, after_index=5, last_index=9, order="desc")
    assert [item.index for item in await every(part)] == [9, 8, 7, 6]


async def test_list_changesets_after_none_is_all_of_them(itwin):
    assert len(await every(itwin.imodels.list_changesets(IMODEL, after_index=0))) == 25


async def test_list_changesets_gives_everything_by_representation(itwin):
    found = await first(itwin.imodels.list_changesets(IMODEL, representation=True))
    assert found.application.name
    assert found.synchronization_info.task_id


async def test_get_changeset_takes_an_id_or_an_index(itwin):
    by_index = await itwin.imodels.get_changeset(IMODEL, 2)
    assert by_index.id == "a1ecbdc8c4f6173004f9f881914a57c5511a362b"
    for other in (by_index.id, "2"):
        # Its signed link is another one each time.
        assert (await itwin.imodels.get_changeset(IMODEL, other)).index == by_index.index == 2


async def test_list_extended_data_gives_the_payloads(itwin):
    found = await every(itwin.imodels.list_extended_data(IMODEL, page_size=10))
    assert [entry.changeset_index for entry in found] == list(range(1, 26))
    assert found[0].data["data"]["changedFiles"] == ["A.dgn", "B.dgn"]
    assert {entry.imodel_id for entry in found} == {IMODEL}


async def test_get_extended_data_is_the_entry_of_the_list(itwin):
    listed = await first(itwin.imodels.list_extended_data(IMODEL))
    found = await itwin.imodels.get_extended_data(IMODEL, listed.changeset_id)
    assert isinstance(found, ExtendedData)
    assert found == listed
    assert found == await itwin.imodels.get_extended_data(IMODEL, 1)


@dataclass
class Plain:
    a: int


class Typed(TypedDict):
    a: int


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"a": [1, None, "é"]}, {"a": [1, None, "é"]}),
        (Files(["A.dgn"]), {"changedFiles": ["A.dgn"]}),
        (Plain(1), {"a": 1}),
        (Typed(a=1), {"a": 1}),
        (msgspec.Raw(b' {"a": 1} '), {"a": 1}),
        ({}, {}),
    ],
)
async def test_create_extended_data_stores_an_object(itwin, emulator, data, kept):
    index = emulator.push_changeset(IMODEL)
    entry = await itwin.imodels.create_extended_data(IMODEL, index, data)
    assert isinstance(entry, ExtendedData)
    assert (entry.changeset_index, entry.imodel_id, entry.data) == (index, IMODEL, kept)
    assert await itwin.imodels.get_extended_data(IMODEL, index) == entry
    (sent,) = (got for got in emulator.requests if got.operation == "create_extended_data")
    body = json.loads(sent.body)
    assert list(body) == ["data"]
    assert json.loads(base64.b64decode(body["data"], validate=True)) == kept
    assert sent.headers["Content-Type"] == "application/json"


async def test_create_extended_data_takes_a_changeset_id(itwin, emulator):
    index = emulator.push_changeset(IMODEL)
    changeset = await itwin.imodels.get_changeset(IMODEL, index)
    entry = await itwin.imodels.create_extended_data(IMODEL, changeset.id, {"a": 1})
    assert (entry.changeset_id, entry.changeset_index) == (changeset.id, index)


async def test_create_extended_data_stores_it_once(itwin, emulator):
    index = emulator.push_changeset(IMODEL)
    await itwin.imodels.create_extended_data(IMODEL, index, {"a": 1})
    with pytest.raises(ConflictError) as caught:
        await itwin.imodels.create_extended_data(IMODEL, index, {"a": 2})
    assert not caught.value.outcome_unknown
    assert "may have been stored" not in str(caught.value)
    assert (await itwin.imodels.get_extended_data(IMODEL, index)).data == {"a": 1}


async def test_create_extended_data_takes_as_much_as_the_platform(itwin, emulator):
    index = emulator.push_changeset(IMODEL)
    around = len(b'{"a":""}')
    most = {"a": "x" * (204_800 - around)}
    entry = await itwin.imodels.create_extended_data(IMODEL, index, most)
    assert len(entry.payload) == 204_800
    sent = len(emulator.requests)
    with pytest.raises(ValueError, match=r"204,801 bytes as JSON, and may have 204,800"):
        await itwin.imodels.create_extended_data(IMODEL, index, {"a": most["a"] + "x"})
    assert len(emulator.requests) == sent


@pytest.mark.parametrize("fault", [Status(500), Status(408), Reset(), Status(201, body={})])
async def test_create_extended_data_with_outcome_unknown_says_that_it_may_have_been_stored(
    emulator, itwin, fault
):
    index = emulator.push_changeset(IMODEL)
    emulator.faults.add("create_extended_data", fault, times=None)
    with pytest.raises((ServerError, TransportError, DecodeError, ITwinError)) as caught:
        await itwin.imodels.create_extended_data(IMODEL, index, {"a": 1})
    assert caught.value.outcome_unknown
    assert "can be set only once, and may have been stored" in str(caught.value)
    assert emulator.count("create_extended_data") == 1
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)


@pytest.mark.parametrize(
    ("order", "sent"),
    [
        ("name desc", "name desc"),
        (("name", "createdDateTime desc"), "name,createdDateTime desc"),
        (["name"], "name"),
        ((), None),
        (None, None),
    ],
)
async def test_list_imodels_takes_one_order_or_several(itwin, emulator, order, sent):
    await first(itwin.imodels.list_imodels(ITWIN, order_by=order))
    assert emulator.requests[-1].query.get("$orderBy") == sent


@pytest.mark.parametrize("order", [5, [5], [""], {"name": 1}])
def test_an_order_that_is_no_text_is_refused(itwin, order):
    with pytest.raises((TypeError, ValueError), match=r"^order_by must "):
        itwin.imodels.list_imodels(ITWIN, order_by=order)
