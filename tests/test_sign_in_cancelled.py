"""Cancelled at each await, signing in frees its port and never loses a token that was given out."""

import pytest
from sign_in_host import Browser, SignInHost, can_listen, redirect
from support import cancelled_at_each_await, until

from itwin_async import ITwinSession, Retry, UserSignIn
from itwin_async.token_store import MemoryTokenStore

pytestmark = pytest.mark.slow  # once for each await


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_signing_in_frees_its_port_and_keeps_what_it_was_given(cancel_kind, when):
    uri, store = redirect(), MemoryTokenStore()
    provider = UserSignIn("id", redirect_uris=(uri,), store=store)

    async with (
        SignInHost() as host,
        ITwinSession(provider, base_url=host.url, retry=Retry(base=0.001)) as itwin,
    ):

        async def check(number: int) -> None:
            assert can_listen(uri), number
            await until(lambda: not store._lock.locked())
            kept = set(store._tokens.values())
            assert kept <= host.current, number

        awaits, _ = await cancelled_at_each_await(
            cancel_kind,
            lambda: itwin.sign_in(open_browser=Browser(host)),
            check,
            when=when,
            step=3,
        )
        assert awaits > 20
        assert (await itwin.get_me()).id == "u-1"


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_renewal_never_loses_the_rotated_token(cancel_kind, when):
    store = MemoryTokenStore()
    provider = UserSignIn("id", redirect_uris=(redirect(),), store=store)

    async with SignInHost() as host:
        store.save(f"{host.url} id itwin-platform offline_access", host.refresh_token())

        async def run() -> None:
            retry = Retry(base=0.001)
            async with ITwinSession(provider, base_url=host.url, retry=retry) as itwin:
                await itwin.get_me()

        async def check(number: int) -> None:
            assert set(store._tokens.values()) == host.current, number
            await until(lambda: not store._lock.locked())

        awaits, _ = await cancelled_at_each_await(cancel_kind, run, check, when=when)
        assert awaits > 10
