"""One emulator and one plain HTTP client for a test; nothing of the library's own client."""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from yarl import URL

from itwin_async.emulator import Emulator, _rate_limit
from itwin_async.emulator._identity import tokens
from itwin_async.emulator._state import clock


class Web:
    """A plain client: `await web(emulator, path)` gives status, JSON and headers."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def __call__(
        self,
        emulator: Emulator,
        target: str,
        method: str = "GET",
        *,
        token: bool = True,
        headers: Mapping[str, str] | None = None,
        **kw: Any,
    ) -> tuple[int, Any, Mapping[str, str]]:
        url = target if target.startswith("http") else emulator.url + target
        every = dict(headers or {})
        if token:
            every["Authorization"] = f"Bearer {emulator.issue_token()}"
        request = self.session.request(method, URL(url, encoded=True), headers=every, **kw)
        async with request as response:
            body = await response.read()
            if response.content_type == "application/json":
                with contextlib.suppress(ValueError):
                    body = json.loads(body)
            return response.status, body, response.headers

    async def pages(self, emulator: Emulator, target: str | None, **kw: Any) -> AsyncIterator[Any]:
        while target:
            status, body, _ = await self(emulator, target, **kw)
            assert status == 200, body
            yield body
            target = ((body["_links"] or {}).get("next") or {}).get("href")

    async def items(self, emulator: Emulator, target: str, key: str, **kw: Any) -> list[Any]:
        return [item async for page in self.pages(emulator, target, **kw) for item in page[key]]


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock for tokens, limits and signed addresses that stands still but for these seconds."""
    began, since, passed = time.time(), time.monotonic(), 0.0

    def forward(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    fake = SimpleNamespace(time=lambda: began + passed, monotonic=lambda: since + passed)
    for module in (_rate_limit, tokens, clock):
        monkeypatch.setattr(module, "time", fake)
    return forward


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        session._retry_connection = False
        yield Web(session)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        yield running


@pytest.fixture
def refused() -> Callable[..., None]:
    """Checks an response to be this error."""

    def check(
        response: tuple[int, Any, Mapping[str, str]],
        status: int,
        code: str,
        *,
        target: str | None = None,
        detail: tuple[str, str | None] | None = None,
        message: str | None = None,
    ) -> None:
        got, body, headers = response
        assert (got, body["error"]["code"]) == (status, code), body
        assert body["error"]["message"]
        assert message in {None, body["error"]["message"]}
        assert body["error"].get("target") == target
        details = body["error"].get("details", [])
        assert [(item["code"], item.get("target")) for item in details] == [detail] * bool(detail)
        assert headers["Content-Type"] == "application/json"

    return check
