"""Ids: text, a member of an enumeration, or a UUID; of a record, the error says what to pass."""

import contextlib
import re
from enum import Enum
from uuid import UUID

import pytest
from calling import call
from declared import OPERATIONS
from known import ACCOUNT, IMODEL, ITWIN, UNKNOWN, every, first

from itwin_async import ExtendedData, ITwinError, Pager
from itwin_async.sync import ChangeFeed


class Known(str, Enum):  # noqa: UP042 - `str` of a `StrEnum` is its value
    NOTHING = UNKNOWN
    ITWIN = ITWIN
    IMODEL = IMODEL


class First(int, Enum):
    ONE = 1


PLACES = [
    (name, place)
    for name, operation in OPERATIONS.items()
    for place in re.findall(r"{(\w+_id)}", operation.path)
]


@pytest.mark.parametrize(("name", "place"), PLACES)
async def test_each_id_in_a_path_may_be_a_uuid(emulator, itwin, name, place):
    value = call(itwin, name, **{place: UUID(UNKNOWN.upper())})
    with contextlib.suppress(ITwinError, StopAsyncIteration):
        await (first(value) if isinstance(value, Pager) else value)
    assert f"/{UNKNOWN}" in emulator.requests[-1].target


@pytest.mark.parametrize(("name", "place"), PLACES)
async def test_each_id_in_a_path_may_be_a_member_of_an_enumeration(emulator, itwin, name, place):
    value = call(itwin, name, **{place: Known.NOTHING})
    with contextlib.suppress(ITwinError, StopAsyncIteration):
        await (first(value) if isinstance(value, Pager) else value)
    assert f"/{UNKNOWN}" in emulator.requests[-1].target


async def test_values_elsewhere_may_be_members_of_enumerations(emulator, itwin):
    assert await every(itwin.imodels.list_imodels(Known.ITWIN, page_size=First.ONE))
    assert emulator.requests[-1].query["iTwinId"] == ITWIN
    assert emulator.requests[-1].query["$top"] == "1"
    assert (await itwin.imodels.get_changeset(IMODEL, First.ONE)).index == 1
    entry = await first(itwin.imodels.list_extended_data(Known.IMODEL))
    assert type(entry.imodel_id) is str
    assert entry.imodel_id == IMODEL
    async with ChangeFeed(itwin, itwin_id=Known.ITWIN, every=None) as feed:
        assert [entry async for entry in feed]
    async with ChangeFeed(itwin, itwin_id=ITWIN, every=None, checkpoint=feed.checkpoint) as again:
        assert [entry async for entry in again] == []


async def test_an_id_in_a_query_or_a_body_may_be_a_uuid(emulator, itwin):
    account, itwin_id = UUID(ACCOUNT), UUID(ITWIN)
    imodels = await every(itwin.imodels.list_imodels(itwin_id))
    assert imodels == await every(itwin.imodels.list_imodels(ITWIN))
    await every(itwin.itwins.list_itwins(parent_id=account, itwin_account_id=account))
    assert emulator.requests[-1].query["parentId"] == ACCOUNT
    assert emulator.requests[-1].query["iTwinAccountId"] == ACCOUNT
    extension = await itwin.extensions.create_extension("n", account)
    assert extension.itwin_id == ACCOUNT
    webhook = await itwin.webhooks.create_webhook(
        "https://a.example/", "iTwin", ["iModels.iModelDeleted.v1"], scope_id=itwin_id
    )
    assert webhook.scope_id == ITWIN
    await itwin.request("GET", "/imodels/", query={"iTwinId": itwin_id}, version="v2")
    assert emulator.requests[-1].query["iTwinId"] == ITWIN


async def test_an_entry_names_its_imodel_as_text(itwin):
    entry = await first(itwin.imodels.list_extended_data(UUID(IMODEL)))
    assert isinstance(entry, ExtendedData)
    assert entry.imodel_id == IMODEL


async def test_a_record_in_place_of_its_id_is_told_what_to_pass(emulator, itwin):
    imodel = await itwin.imodels.get_imodel(IMODEL)
    account = await itwin.itwins.get_primary_account()
    changeset = await itwin.imodels.get_changeset(IMODEL, 1)
    entry = await first(itwin.imodels.list_extended_data(IMODEL))
    extension = await first(itwin.extensions.list_extensions())
    sent = len(emulator.requests)
    i = itwin
    for use, message in {
        lambda: i.imodels.list_changesets(imodel): "imodel_id must be a str, not IModel: "
        "pass imodel.id",
        lambda: i.imodels.list_extended_data(imodel): "imodel_id must be a str, not IModel: "
        "pass imodel.id",
        lambda: i.imodels.list_imodels(account): "itwin_id must be a str, not ITwin: pass itwin.id",
        lambda: i.imodels.list_imodels(imodel): "itwin_id must be a str, not IModel: "
        "pass imodel.itwin_id",
        lambda: i.imodels.list_changesets(entry): "imodel_id must be a str, not ExtendedData: "
        "pass extendeddata.imodel_id",
        lambda: i.extensions.list_versions(extension): "extension_id must be a str, not Extension: "
        "pass extension.id",
        lambda: i.imodels.list_changesets(account): "imodel_id must be a str, not ITwin",
        lambda: i.imodels.list_changesets(5): "imodel_id must be a str, not int",
    }.items():
        with pytest.raises(TypeError) as caught:
            use()
        assert str(caught.value) == message
    with pytest.raises(TypeError, match=r"a str or an int, not Changeset: pass changeset\.id$"):
        await itwin.imodels.get_changeset(IMODEL, changeset)
    assert len(emulator.requests) == sent
