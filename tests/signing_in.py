"""A host to sign in at, and sessions of a person that open no browser."""

import webbrowser
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sign_in_host import SignInHost, redirect

from itwin_async import (
    ClientCredentials,
    ITwinSession,
    Retry,
    TokenProvider,
    UserSignIn,
)

CLIENT = "native-of-the-test"


@pytest.fixture
async def host() -> AsyncIterator[SignInHost]:
    async with SignInHost() as running:
        yield running


def session(
    host: SignInHost, provider: TokenProvider | ClientCredentials, **options: Any
) -> ITwinSession:
    options.setdefault("retry", Retry(base=0.001))
    return ITwinSession(provider, base_url=host.url, **options)


def person(**options: Any) -> UserSignIn:
    options.setdefault("redirect_uris", (redirect(),))
    return UserSignIn(CLIENT, **options)


def no_browser(_url: str) -> None:
    raise AssertionError("nothing may open a browser")


@pytest.fixture(autouse=True)
def _nothing_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", no_browser)
