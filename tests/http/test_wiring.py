"""What users of aioresponses see: requests are made the way its mocks expect them."""

import inspect
from collections.abc import AsyncIterator, Iterator
from unittest.mock import Mock

import aiohttp
import aioresponses
import pytest
from yarl import URL

from itwin_async import ITwinSession, NotFoundError, StaticToken

BASE = "https://api.bentley.com"


class Response(aiohttp.ClientResponse):
    """Version 0.7.9 of aioresponses does not know the last argument of aiohttp 3.14."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, stream_writer=Mock(), **kwargs)


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    with aioresponses.aioresponses() as mock:
        add = mock.add
        mock.add = lambda *args, **kwargs: add(*args, response_class=Response, **kwargs)
        yield mock


@pytest.fixture
async def itwin() -> AsyncIterator[ITwinSession]:
    async with ITwinSession(StaticToken("token-of-the-test")) as session:
        yield session


async def test_the_shim_is_still_needed():
    parameters = inspect.signature(aiohttp.ClientResponse.__init__).parameters
    assert parameters["stream_writer"].default is inspect.Parameter.empty
    async with aiohttp.ClientSession() as http:
        with aioresponses.aioresponses() as mock:
            mock.get(BASE)
            with pytest.raises(TypeError, match="stream_writer"):  # else: remove the shim
                await http.get(BASE)


async def test_a_call_goes_where_the_platform_documents_it(mocked, itwin):
    url = f"{BASE}/itwins/myprimaryaccount"
    mocked.get(url, payload={"iTwin": {"id": "1", "class": "Account"}})
    assert (await itwin.itwins.get_primary_account()).class_ == "Account"
    ((key, (call,)),) = mocked.requests.items()
    assert key == ("GET", URL(url))
    assert call.kwargs["headers"]["Authorization"] == "Bearer token-of-the-test"
    assert call.kwargs["allow_redirects"] is False


async def test_a_list_follows_its_links(mocked, itwin):
    first, second = f"{BASE}/extensions/", f"{BASE}/extensions?$top=1&$skip=1"
    one, two = ({"id": n, "name": n} for n in "12")
    mocked.get(first, payload={"extensions": [one], "_links": {"next": {"href": second}}})
    mocked.get(second, payload={"extensions": [two], "_links": {"next": None}})
    assert [item.id async for item in itwin.extensions.list_extensions()] == ["1", "2"]


async def test_a_refusal_becomes_its_error(mocked, itwin):
    body = {"error": {"code": "iModelNotFound", "message": "Requested iModel is not available."}}
    mocked.get(f"{BASE}/imodels/i", status=404, payload=body)
    with pytest.raises(NotFoundError) as caught:
        await itwin.imodels.get_imodel("i")
    assert str(caught.value) == (
        "404 iModelNotFound: Requested iModel is not available. "
        "/imodels/i is missing, or not visible to this caller."
    )
    assert caught.value.path == "/imodels/i"
