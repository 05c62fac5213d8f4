"""Next links are followed as they are, refused where they lead away, and end in a circle."""

import pytest
from raw_pages import (
    IMODEL,
    PATH,
    PageServer,
    client,
    collect,
    entries,
    numbers,
    page,
)

from itwin_async import (
    DecodeError,
    ITwinError,
    LinkError,
)
from itwin_async.emulator import Edit, Status

LIST = "list_extended_data"

AHEAD = pytest.mark.parametrize("ahead", [0, 1, 16])


def chain(*pages: tuple[int, object]):
    """Pages by number of items and next link; a link ``->n`` leads to page n."""

    async def answer(call) -> None:
        _, _, number = call.target.partition("page=")
        at = int(number or 0)
        count, following = pages[at]
        if isinstance(following, str) and following.startswith("->"):
            following = f"{call.server.url}{PATH}?page={following[2:]}"
        await call.body(page(entries(at * 100, count), following))

    return answer


async def gathered(pager) -> tuple[list[int], Exception | None]:
    """What a list gives, and the error it ends with."""
    seen: list[int] = []
    try:
        async for item in pager:
            seen.append(item.changeset_index)
    except ITwinError as error:
        return seen, error
    return seen, None


@AHEAD
async def test_a_link_goes_out_byte_for_byte(ahead):
    odd = f"{PATH}?$skip=2&x=%2f%2F%7e~%3A:+%20&&=&y=a%00b&$top=2;,'()*!@"

    async def answer(call) -> None:
        await call.body(page(entries(0, 2), None if call.number else f"{call.server.url}{odd}"))

    async with PageServer(answer) as server, client(server) as itwin:
        await collect(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
        assert server.targets == [PATH, odd]


@pytest.mark.parametrize(
    "odd", [f"{PATH}?$skip=1&a=%zz", "/x%2e%2e/./y/../z?q", f"{PATH}?page=1#x"]
)
async def test_a_path_is_not_normalised(odd):
    async def answer(call) -> None:
        await call.body(page(entries(call.number, 1), None if call.number else odd))

    async with PageServer(answer) as server, client(server) as itwin:
        await collect(itwin.imodels.list_extended_data(IMODEL))
        assert server.targets[1] == odd.partition("#")[0]


async def test_a_query_alone_is_a_link_on_the_same_path():
    async def answer(call) -> None:
        await call.body(page(entries(call.number, 1), None if call.number else "?$skip=1"))

    async with PageServer(answer) as server, client(server) as itwin:
        await collect(itwin.imodels.list_extended_data(IMODEL, page_size=1))
        assert server.targets == [f"{PATH}?$top=1", f"{PATH}?$skip=1"]


@pytest.mark.parametrize("host", ["api.bentley.com", "qa-api.bentley.com", "API.bentley.com:443"])
@AHEAD
async def test_platform_links_are_followed_on_a_base_of_ones_own(host, ahead):
    async def answer(call) -> None:
        link = None if call.number else f"https://{host}{PATH}?$skip=1"
        await call.body(page(entries(call.number, 1), link))

    async with PageServer(answer) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        assert await collect(pager.ahead(ahead)) == [0, 1]
        assert server.targets == [PATH, f"{PATH}?$skip=1"]


@pytest.mark.parametrize(
    "link",
    ["https://evil.example/x", "//evil.example/x", "https://api.bentley.com@evil.example/",
     "https://api.bentley.com.evil.example/x", "http://api.bentley.com/x", "http://127.0.0.1:1/x",
     "https://127.0.0.1/x", "ftp://api.bentley.com/x", "\\\\evil.example", "/a b", "/\r\nX: y",
     "https://[::1", "https:///x", "x", "/" + "a" * 9_000],
)  # fmt: skip
async def test_a_bad_link_is_an_error_after_the_items(link):
    for ahead in (0, 1, 16):
        async with PageServer(chain((3, link))) as server, client(server) as itwin:
            seen, error = await gathered(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
            assert seen == [0, 1, 2]
            assert isinstance(error, LinkError)
            assert error.operation == "GET /imodels/{imodel_id}/changesets/extendeddata"
            assert server.targets == [PATH]


@AHEAD
async def test_pages_give_the_page_before_a_bad_link(ahead):
    link = "https://evil.example/x"
    async with PageServer(chain((3, link))) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)
        pages = pager.pages()
        only = await anext(pages)
        assert numbers(only) == [0, 1, 2]
        with pytest.raises(LinkError):
            await anext(pages)
        assert isinstance((await gathered(pager.resume(only.cursor)))[1], LinkError)


@pytest.mark.parametrize("links", [..., None, {}, {"next": None}, {"next": {}},
                                   {"next": {"href": None}}, {"self": {"href": "x"}}])  # fmt: skip
async def test_a_list_without_a_next_link_ends(links):
    async def answer(call) -> None:
        body = {"extendedData": entries(0, 2)}
        await call.json(body if links is ... else body | {"_links": links})

    async with PageServer(answer) as server, client(server) as itwin:
        assert await gathered(itwin.imodels.list_extended_data(IMODEL)) == ([0, 1], None)


@pytest.mark.parametrize("links", [{"next": {"href": ""}}, {"next": {"href": 5}}, {"next": 5},
                                   {"next": []}, {"next": {"href": ["/x"]}}])  # fmt: skip
@AHEAD
async def test_a_next_link_that_is_no_text_is_an_error(links, ahead):
    async def answer(call) -> None:
        await call.json({"extendedData": entries(0, 2), "_links": links})

    async with PageServer(answer) as server, client(server) as itwin:
        seen, error = await gathered(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
        assert (seen, type(error)) == ([0, 1], LinkError)


@pytest.mark.parametrize("text", [b"{}", b"[]", b"null", b'{"extendedData":null}', b'"x"', b"",
                                  b'{"extendedData":{}}', b'{"_links":{}}'])  # fmt: skip
async def test_a_page_without_its_list_is_no_end(text):
    async def answer(call) -> None:
        await call.body(text)

    async with PageServer(answer) as server, client(server) as itwin:
        with pytest.raises(DecodeError):
            await collect(itwin.imodels.list_extended_data(IMODEL))
        with pytest.raises(DecodeError):
            await collect(itwin.imodels.list_extended_data(IMODEL).ahead(4))


async def test_the_lists_key_may_be_in_lower_case(emulator, itwin):
    emulator.faults.add(LIST, Edit(lambda page: {
        "extendeddata": page["extendedData"], "_links": page["_links"]}), times=None)  # fmt: skip
    assert len(await collect(itwin.imodels.list_extended_data(IMODEL, page_size=5))) == 25


async def test_an_empty_page_with_a_next_link_is_followed():
    pages = ((0, "->1"), (2, "->2"), (0, "->3"), (0, "->4"), (1, None))
    async with PageServer(chain(*pages)) as server, client(server) as itwin:
        for ahead in (0, 1, 16):
            pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)
            assert await collect(pager) == [100, 101, 400]
        lengths = [len(page) async for page in itwin.imodels.list_extended_data(IMODEL).pages()]
        assert lengths == [0, 2, 0, 0, 1]


@pytest.mark.parametrize(
    ("pages", "seen"),
    [(((1, f"{PATH}"),), [0]), (((1, "->0"), (1, None)), [0]), (((0, "->1"), (0, "->1")), []),
     (((1, "->1"), (1, "->2"), (1, "->1")), [0, 100, 200]),
     (((1, "->1"), (0, "->2"), (1, "->3"), (1, "->1")), [0, 200, 300])],
)  # fmt: skip
@AHEAD
async def test_a_loop_ends_after_its_items(pages, seen, ahead):
    if len(pages) == 2 and pages[0] == (1, "->0"):
        seen = [0, 0]  # the first address has no query, so the second visit is another address
    async with PageServer(chain(*pages)) as server, client(server) as itwin:
        got, error = await gathered(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
        assert got == seen
        assert isinstance(error, LinkError)
        assert "loop" in str(error)
        assert len(server.targets) == len(set(server.targets))


@pytest.mark.slow
@AHEAD
async def test_endless_empty_pages_end(ahead):
    async def answer(call) -> None:
        await call.body(page([], f"{PATH}?page={call.number + 1}"))

    async with PageServer(answer) as server, client(server) as itwin:
        with pytest.raises(LinkError, match="empty pages"):
            await collect(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
        assert 100 <= len(server.calls) <= 2_000


@AHEAD
async def test_empty_pages_between_full_ones_are_no_loop(monkeypatch, ahead):
    monkeypatch.setattr(
        "itwin_async._pagination.page_reader._MAX_EMPTY_PAGES", 20
    )  # a thousand take their time

    async def answer(call) -> None:
        at = int(call.target.partition("page=")[2] or 0)
        link = f"{PATH}?page={at + 1}" if at < 60 else None
        await call.body(page(entries(at, 1) if at % 15 == 0 else [], link))

    async with PageServer(answer) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)
        assert await collect(pager) == [0, 15, 30, 45, 60]


async def test_continuation_tokens_are_followed(emulator):
    def tokens(call):
        return call.operation == "list_changesets" and "$skip" in call.query

    def to_tokens(body):
        link = body["_links"]["next"]
        if link is not None and "$skip" in link["href"]:
            link["href"] = link["href"].replace("$skip=5", "$continuationToken=NQ%3D%3D")

    emulator.faults.add("list_changesets", Edit(to_tokens))
    emulator.faults.add(tokens, Status(400), times=None)
    async with client(emulator) as itwin:
        for _ in range(2):
            pager = itwin.imodels.list_changesets(IMODEL, page_size=5)
            items = aiter(pager)
            taken = [(await anext(items)).index for _ in range(7)]
            rest = [item.index async for item in pager.resume(items.cursor)]
            assert taken + rest == list(range(1, 26))
            emulator.faults.clear()
    sent = [entry.target for entry in emulator.requests if "continuationToken" in entry.target]
    assert "$continuationToken=NQ%3D%3D&$top=5" in sent[0]
