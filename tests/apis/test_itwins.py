"""Operations of iTwins and accounts against the emulated platform."""

import logging

import pytest
from known import ACCOUNT, ITWIN, every, first

from itwin_async import (
    ITwin,
    ITwinSession,
    itwins,
)
from itwin_async._core.urls import split
from itwin_async.emulator import Emulator


async def test_list_itwins_gives_those_of_the_caller(itwin, emulator):
    found = await every(itwin.itwins.list_itwins(page_size=2))
    assert [item.class_ for item in found] == ["Endeavor", "Account", "Account"]
    assert found[0].status is None
    assert emulator.requests[-1].headers["X-Max-Return"] == "10000"


async def test_list_itwins_filters(itwin):
    accounts = await every(itwin.itwins.list_itwins(sub_class="Account"))
    assert {item.sub_class for item in accounts} == {"Account"}
    assert [i.id for i in await every(itwin.itwins.list_itwins(search="white"))] == [ITWIN]
    assert len(await every(itwin.itwins.list_itwins(include_inactive=True))) == 3
    assert not await every(itwin.itwins.list_itwins(status="Trial"))


async def test_list_itwins_gives_everything_by_representation(itwin):
    found = await first(itwin.itwins.list_itwins(representation=True))
    assert found.itwin_account_id == ACCOUNT
    assert found.created_date_time.year == 2016


@pytest.mark.parametrize(
    ("filters", "query", "found"),
    [
        ({"type": "Construction Project"}, {"type": "Construction Project"}, 1),
        ({"number": "00001-ds-3902795"}, {"number": "00001-ds-3902795"}, 1),
        ({"display_name": "White River"}, {"displayName": "White River"}, 1),
        ({"display_name": "White"}, {"displayName": "White"}, 0),
        ({"parent_id": ACCOUNT}, {"parentId": ACCOUNT}, 1),
        ({"itwin_account_id": ACCOUNT}, {"iTwinAccountId": ACCOUNT}, 2),
        ({"filter": "contains(number, 'ds')"}, {"$filter": "contains(number, 'ds')"}, 1),
        ({"filter": "number ne 'x'", "sub_class": "Account"}, {"subClass": "Account"}, 2),
        ({"orderby": "displayName desc"}, {"$orderby": "displayName desc"}, 3),
    ],
)
async def test_list_itwins_takes_each_documented_filter(itwin, emulator, filters, query, found):
    assert len(await every(itwin.itwins.list_itwins(**filters))) == found
    sent = emulator.requests[-1].query
    assert {name: sent[name] for name in query} == query


async def test_list_itwins_orders(itwin):
    names = [i.display_name for i in await every(itwin.itwins.list_itwins(orderby="displayName"))]
    assert names == sorted(names)


async def test_list_itwins_selects_fields_and_always_the_id(itwin, emulator):
    found = await first(itwin.itwins.list_itwins(select="displayName"))
    assert (found.id, found.display_name, found.number) == (ITWIN, "White River", None)
    assert emulator.requests[-1].query["$select"] == "id,displayName"
    await first(itwin.itwins.list_itwins(select="number, id"))
    assert emulator.requests[-1].query["$select"] == "number, id"


@pytest.mark.parametrize("scope", [None, "memberOfItwin", "all", "OrganizationAdmin"])
async def test_list_itwins_asks_in_a_scope(itwin, emulator, scope):
    await first(itwin.itwins.list_itwins(query_scope=scope))
    assert emulator.requests[-1].headers.get("X-iTwin-Query-Scope") == scope


async def test_list_itwins_asks_for_a_representation_on_every_page(itwin, emulator):
    for wanted, prefer in ((False, "return=minimal"), (True, "return=representation")):
        emulator.requests.clear()
        await every(itwin.itwins.list_itwins(representation=wanted, page_size=1))
        listed = [got for got in emulator.requests if got.operation == "list_itwins"]
        assert len(listed) == 3
        assert {got.headers["Prefer"] for got in listed} == {prefer}
        assert {got.headers["X-Max-Return"] for got in listed} == {"10000"}


@pytest.mark.parametrize(("count", "warned"), [(9_999, False), (10_000, True), (10_050, True)])
@pytest.mark.parametrize("ahead", [0, pytest.param(4, marks=pytest.mark.slow)])
async def test_a_list_of_itwins_that_is_cut_off_warns_in_the_log(caplog, count, warned, ahead):
    caplog.set_level(logging.WARNING, "itwin_async")
    async with (
        Emulator(itwins=count, imodels=0, extensions=3) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        found = await every(itwin.itwins.list_itwins(page_size=1_000).ahead(ahead))
    assert len(found) == min(count, 10_000)
    warnings = [item for item in caplog.records if "10000 iTwins" in item.getMessage()]
    assert len(warnings) == warned


def test_a_list_of_itwins_that_goes_on_warns_of_nothing(caplog):
    links = {"next": {"href": "/itwins/?$skip=10000"}}
    page = itwins.ITwinPage(itwins=[ITwin(id="1")] * 10, links=links)
    base = split("https://api.bentley.com/")[0]
    assert page.next_target(base, "/itwins/?$skip=9990") == "/itwins/?$skip=10000"
    assert not caplog.records


async def test_get_primary_account_is_the_callers_own(itwin):
    assert (await itwin.itwins.get_primary_account()).id == ACCOUNT


async def test_get_account_is_that_of_an_itwin(itwin):
    assert (await itwin.itwins.get_account(ITWIN)).id == ACCOUNT
