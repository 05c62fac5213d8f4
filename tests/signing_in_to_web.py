"""The web example that signs users in, in front of an emulator where its address is registered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import fastapi_sign_in
import pytest
from serving import serving
from sign_in_host import free_port

from itwin_async.emulator import Emulator

USERS = ("ada lovelace", "ray <b>brown</b>:reader")


@dataclass
class Site:
    """Where the app is, and the platform behind it."""

    url: str
    emulator: Emulator


@asynccontextmanager
async def site(redirect_uri: str | None = None) -> AsyncIterator[Site]:
    """The app with a redirect address of its own, or with this one."""
    port = free_port()
    uri = redirect_uri or f"http://127.0.0.1:{port}/signin-callback"
    async with Emulator(
        users=USERS, redirect_uris=[uri], itwins=3, imodels=1, changesets=1
    ) as emulator:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in emulator.environment.items():
                patch.setenv(name, value)
            patch.setenv("ITWIN_WEB_REDIRECT_URI", uri)
            async with serving(fastapi_sign_in.app, port) as url:
                yield Site(url, emulator)
