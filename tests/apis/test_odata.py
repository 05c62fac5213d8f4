"""Rows of an entity set: no link is documented, so the rows themselves say where a list goes on."""

from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec
import pytest
from raw_pages import PageServer, client, settled

from itwin_async import DecodeError, LinkError, NotFoundError, Pager
from itwin_async._core.urls import split
from itwin_async._pagination.page_types import ODataPage
from itwin_async.emulator import Cut, Edit, Emulator, Status

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
PACKAGE, SET = "SAP_WORK_ORDERS", "SAP_Work_Orders_Read"
PATH = f"/edfs/itwins/{ITWIN}/packages/{PACKAGE}/odata/{SET}"
BASE = split("https://api.bentley.com/")[0]


class Row(msgspec.Struct):
    Field1: str
    Field2: str


@dataclass
class Half:
    Field1: str


def rows_of(itwin, row_type=None, **options) -> Pager:
    return itwin.packages.list_entities(ITWIN, PACKAGE, SET, row_type, **options)


async def every(pager):
    return [item async for item in pager]


def value(index: int) -> dict[str, str]:
    """A row as the emulator makes it."""
    return {"Field1": f"value{2 * index + 1}", "Field2": f"value{2 * index + 2}"}


def targets(emulator) -> list[str]:
    """The queries of all requests for rows."""
    return [got.target.partition("?")[2] for got in emulator.requests if got.operation == LIST]


LIST = "list_entities"


# As the platform is documented


@pytest.mark.parametrize("ahead", [0, 1, 8])
@pytest.mark.parametrize("page_size", [None, 7, 25, 250, 251])
async def test_all_rows_come_once_and_in_order(emulator, itwin, page_size, ahead):
    found = await every(rows_of(itwin, page_size=page_size).ahead(ahead))
    assert found == [value(index) for index in range(250)]


async def test_a_list_ends_with_an_empty_page(emulator, itwin):
    await every(rows_of(itwin, page_size=100))
    assert targets(emulator) == [
        "$top=100", "$top=100&$skip=100", "$top=100&$skip=200", "$top=100&$skip=250",
    ]  # fmt: skip


async def test_without_a_page_size_nothing_is_asked_for_but_the_rest(emulator, itwin):
    await every(rows_of(itwin))
    assert targets(emulator) == ["", "$skip=250"]


async def test_a_server_that_gives_fewer_rows_than_asked_loses_none():
    async with (
        Emulator(itwins=3, imodels=0, extensions=3, max_items=30) as emulator,
        client(emulator) as itwin,
    ):
        found = await every(rows_of(itwin, page_size=100))
        assert found == [value(index) for index in range(250)]
        assert targets(emulator)[1] == "$top=100&$skip=30"


async def test_rows_become_what_was_asked_for(itwin):
    assert (await every(rows_of(itwin, Row)))[:2] == [
        Row("value1", "value2"), Row("value3", "value4"),
    ]  # fmt: skip
    assert (await every(rows_of(itwin, Half)))[1] == Half("value3")
    assert (await every(rows_of(itwin, dict[str, str])))[2] == value(2)
    assert bytes((await every(rows_of(itwin, msgspec.Raw)))[0]) == msgspec.json.encode(value(0))


async def test_rows_are_selected_filtered_and_ordered(emulator, itwin):
    found = await every(
        rows_of(
            itwin,
            select="Field2",
            filter="startswith(Field1, 'value49')",
            orderby="Field1 desc",
            page_size=4,
        )
    )
    assert found == [{"Field2": f"value{n}"} for n in (500, 498, 496, 494, 492, 50)]
    query = parse_qs(targets(emulator)[1])
    assert query == {
        "$select": ["Field2"],
        "$filter": ["startswith(Field1, 'value49')"],
        "$orderby": ["Field1 desc"],
        "$top": ["4"],
        "$skip": ["4"],
    }


async def test_a_list_goes_on_behind_its_cursor(itwin):
    pager = rows_of(itwin, page_size=20)
    async with aiter(pager) as items:
        for _ in range(33):
            await anext(items)
        cursor = items.cursor
    rest = await every(pager.resume(cursor))
    assert rest == [value(index) for index in range(33, 250)]
    pages = [page async for page in pager.pages()]
    assert [len(page) for page in pages] == [20] * 12 + [10, 0]
    assert await every(pager.resume(pages[-1].cursor)) == []
    assert await every(pager.resume(pages[2].cursor)) == [value(index) for index in range(60, 250)]


async def test_a_fault_on_the_way_loses_no_row(emulator):
    emulator.faults.add(LIST, Cut(100), after=1)
    emulator.faults.add(LIST, Status(503), after=2)
    async with client(emulator) as itwin:
        found = await every(rows_of(itwin, page_size=50))
    assert found == [value(index) for index in range(250)]


async def test_a_set_that_is_not_there_is_told(itwin):
    with pytest.raises(NotFoundError, match="SchemaNotFound"):
        await every(itwin.packages.list_entities(ITWIN, PACKAGE, "Nothing"))


async def test_a_row_of_another_kind_is_told_after_the_rows_before(emulator, itwin):
    spoil = Edit(lambda body: body["value"][1].update(Field1=5))
    emulator.faults.add(LIST, spoil, times=None, after=1)
    found = []
    with pytest.raises(DecodeError, match=r"a row: .*Field1") as caught:
        async for row in rows_of(itwin, Row, page_size=10):
            found.append(row)
    assert len(found) == 10
    assert caught.value.operation == f"GET {PATH_TEMPLATE}"


PATH_TEMPLATE = "/edfs/itwins/{itwin_id}/packages/{unique_name}/odata/{entity_set}"


@pytest.mark.parametrize("body", [b"{}", b'{"value":null}', b'{"value":{}}', b"[]", b""])
async def test_what_is_no_page_is_a_decode_error(emulator, itwin, body):
    emulator.faults.add(LIST, Status(200, body=body), times=None)
    with pytest.raises(DecodeError):
        await every(rows_of(itwin))


async def test_a_set_without_rows_is_empty(emulator, itwin):
    emulator.faults.add(LIST, Status(200, body={"value": []}))
    assert await every(rows_of(itwin)) == []
    assert emulator.count(LIST) == 1


# As no page of it is documented


@pytest.mark.parametrize("ahead", [0, 4])
async def test_a_server_without_skip_ends_in_a_link_error(emulator, itwin, ahead):
    def same(body):
        body["value"] = [value(0), value(1)]

    emulator.faults.add(LIST, Edit(same), times=None)
    found = []
    with pytest.raises(LinkError, match="runs in a loop: a page equals the one before it"):
        async for row in rows_of(itwin, page_size=2).ahead(ahead):
            found.append(row)
    assert found == [value(0), value(1)]
    await settled(itwin.limiter)


async def test_pages_that_are_equal_but_not_neighbours_are_no_loop():
    pages = [b'{"value":[1]}', b'{"value":[2]}', b'{"value":[1]}', b'{"value":[]}']

    async def answers(call) -> None:
        await call.body(pages[call.number])

    async with PageServer(answers) as server, client(server) as itwin:
        assert await every(rows_of(itwin, int)) == [1, 2, 1]


@pytest.mark.parametrize("how", ["absolute", "of the platform", "path", "query"])
async def test_a_next_link_is_followed_byte_for_byte_and_ends_where_there_is_none(how):
    async def answers(call) -> None:
        query = "?$skiptoken=a%2Fb%7e"
        links = {
            "absolute": f"{call.server.url}{PATH}{query}",
            "of the platform": f"https://dev-api.bentley.com{PATH}{query}",
            "path": f"{PATH}{query}",
            "query": query,
        }
        if call.number == 0:
            await call.json({"value": [1, 2], "@odata.nextLink": links[how]})
        else:
            await call.json({"value": [3]})

    async with PageServer(answers) as server, client(server) as itwin:
        assert await every(rows_of(itwin, int, page_size=2)) == [1, 2, 3]
        assert server.targets == [f"{PATH}?$top=2", f"{PATH}?$skiptoken=a%2Fb%7e"]


async def test_equal_pages_that_links_lead_through_are_no_loop():
    async def answers(call) -> None:
        link = f"{PATH}?$skiptoken={call.number}" if call.number < 3 else None
        await call.json({"value": [7], "@odata.nextLink": link})

    async with PageServer(answers) as server, client(server) as itwin:
        assert await every(rows_of(itwin, int)) == [7, 7, 7, 7]


@pytest.mark.parametrize(
    "link", ["https://evil.example/x", "http://127.0.0.1:1/x", "//evil.example/", "x y", "", 5, {}]
)
async def test_a_next_link_that_must_not_be_followed_ends_the_list_after_its_page(link):
    async def answers(call) -> None:
        await call.json({"value": [1], "@odata.nextLink": link})

    async with PageServer(answers) as server, client(server) as itwin:
        found = []
        with pytest.raises(LinkError):
            async for row in rows_of(itwin, int):
                found.append(row)
        assert found == [1]
        assert len(server.calls) == 1


async def test_a_next_link_to_the_same_page_is_a_loop():
    async def answers(call) -> None:
        await call.json({"value": [call.number], "@odata.nextLink": call.target})

    async with PageServer(answers) as server, client(server) as itwin:
        with pytest.raises(LinkError, match="runs in a loop"):
            await every(rows_of(itwin, int))


@pytest.mark.parametrize(
    ("target", "rows", "following"),
    [
        ("/s", 2, "/s?$skip=2"),
        ("/s?$top=5", 5, "/s?$top=5&$skip=5"),
        ("/s?$top=5&$skip=5", 3, "/s?$top=5&$skip=8"),
        ("/s?%24top=5&%24skip=5", 3, "/s?%24top=5&%24skip=8"),
        ("/s?$filter=a%20eq%20'%26$skip=9'", 1, "/s?$filter=a%20eq%20'%26$skip=9'&$skip=1"),
        ("/s?$top=5&$skip=5", 0, None),
        ("/s?$skiptoken=x", 3, None),
        ("/s?$top=5&%24skiptoken=x", 3, None),
    ],
)
def test_where_a_page_of_rows_leads(target, rows, following):
    page = ODataPage(value=[msgspec.Raw(b"1")] * rows)
    assert page.next_target(BASE, target) == following


def test_the_context_of_a_page_leads_nowhere():
    text = b'{"@odata.context":"https://dev-api.bentley.com/x","value":[1]}'
    page = msgspec.json.decode(text, type=ODataPage)
    assert page.next_target(BASE, "/s") == "/s?$skip=1"
    assert page.context == "https://dev-api.bentley.com/x"
