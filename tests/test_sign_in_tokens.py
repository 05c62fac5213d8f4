"""The tokens of a person who has signed in: renewed, stored, and kept when a wait is cancelled."""

import asyncio
import time

import pytest
from sign_in_host import Browser
from signing_in import CLIENT, _nothing_opens, host, no_browser, person, session
from support import Running, answer, until

from itwin_async import (
    ServerError,
    TransportError,
    UnauthorizedError,
)
from itwin_async.token_store import MemoryTokenStore

__all__ = ["_nothing_opens", "host"]  # fixtures


@pytest.mark.parametrize("status", ["502 Bad Gateway", "504 Gateway Timeout"])
async def test_a_gateway_that_fails_is_asked_again(host, status):
    host.failures = [answer(b"<p>later</p>", status=status)] * 2
    async with session(host, person()) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        assert (await itwin.get_me()).id == "u-1"
    assert len(host.forms) == 3


async def test_a_gateway_that_goes_on_failing_is_an_error(host):
    host.failures = [answer(status="502 Bad Gateway")] * 9
    async with session(host, person()) as itwin:
        with pytest.raises(ServerError, match="502"):
            await itwin.sign_in(open_browser=Browser(host))
    assert len(host.forms) == 4


async def test_a_refused_code_is_an_error_with_the_hosts_code(host):
    host.failures = [answer(b'{"error":"invalid_client"}', status="401 X")]
    async with session(host, person()) as itwin:
        with pytest.raises(UnauthorizedError) as caught:
            await itwin.sign_in(open_browser=Browser(host))
    assert caught.value.code == "invalid_client"


async def test_a_token_is_renewed_and_the_newest_refresh_token_is_kept(host):
    store = MemoryTokenStore()
    host.lifetime = 0.05
    async with session(host, person(store=store)) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        for _ in range(3):
            await asyncio.sleep(0.06)
            assert (await itwin.get_me()).id == "u-1"
    used = [form["refresh_token"] for form in host.forms if "refresh_token" in form]
    assert len(used) == len(set(used)) >= 3
    assert set(store._tokens.values()) == host.current


async def test_a_refresh_token_that_is_not_repeated_stays(host):
    host.rotates = False
    host.lifetime = 0.05
    async with session(host, person()) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        for _ in range(3):
            await asyncio.sleep(0.06)
            await itwin.get_me()
    assert len({form["refresh_token"] for form in host.forms[1:]}) == 1


async def test_without_a_refresh_token_the_sign_in_lasts_as_long_as_its_token(host):
    host.offline = False
    async with session(host, person()) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        await itwin.get_me()
        host.access.clear()
        with pytest.raises(UnauthorizedError, match="nobody is signed in"):
            await itwin.get_me()


async def test_a_refresh_token_that_ended_says_what_to_call(host):
    async with session(host, person()) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        host.access.clear()
        host.current.clear()
        with pytest.raises(
            UnauthorizedError, match=r"has ended: call `await itwin\.sign_in"
        ) as caught:
            await itwin.get_me()
        assert caught.value.code == "invalid_grant"
        with pytest.raises(UnauthorizedError, match="nobody is signed in"):
            await itwin.get_me()
        assert host.refreshes == 1
        await itwin.sign_in(open_browser=Browser(host))
        await itwin.get_me()


async def test_a_token_that_another_process_rotated_is_looked_up_again(host):
    """A store whose lock is no lock: the token changes while it is used."""
    store = MemoryTokenStore()
    provider = person(store=store)

    class Rotated(MemoryTokenStore):
        def load(self, key):
            token = super().load(key)
            if token == "canary-of-before":
                self.save(key, host.refresh_token())
            return token

    store = Rotated()
    provider = person(store=store)
    async with session(host, provider) as itwin:
        store.save(f"{host.url} {CLIENT} itwin-platform offline_access", "canary-of-before")
        assert (await itwin.get_me()).id == "u-1"
    assert host.refreshes == 2


async def test_an_error_that_is_not_of_the_token_leaves_it(host):
    store = MemoryTokenStore()
    async with session(host, person(store=store)) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        host.access.clear()
        host.failures = [answer(b'{"error":"invalid_client"}', status="401 X")]
        with pytest.raises(UnauthorizedError):
            await itwin.get_me()
        await itwin.get_me()


async def test_a_crowd_waits_for_one_renewal(host):
    async with session(host, person()) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        host.access.clear()
        await asyncio.gather(*(itwin.get_me() for _ in range(10)))
    assert host.refreshes == 1


async def test_two_sessions_of_one_sign_in_renew_in_turn(host):
    provider = person()
    host.delay = 0.02
    async with session(host, provider) as one, session(host, provider) as other:
        await asyncio.gather(
            one.sign_in(open_browser=Browser(host)), other.sign_in(open_browser=no_browser)
        )
        host.access.clear()
        await asyncio.gather(one.get_me(), other.get_me())
    assert host.refreshes == 2


async def test_an_answer_that_arrives_is_kept_although_the_session_closes(host):
    store = MemoryTokenStore()
    provider = person(store=store)
    itwin = session(host, provider)
    await itwin.sign_in(open_browser=Browser(host))
    host.access.clear()
    host.gate = asyncio.Event()
    running = asyncio.create_task(itwin.get_me())
    await until(lambda: host.refreshes)
    closing = asyncio.create_task(itwin.aclose())
    await asyncio.sleep(0)
    host.gate.set()
    await closing
    with pytest.raises(RuntimeError):
        await running
    assert set(store._tokens.values()) == host.current


async def test_an_answer_that_arrives_is_kept_although_the_waiter_is_cancelled(host, cancel_kind):
    store = MemoryTokenStore()
    provider = person(store=store)
    async with session(host, provider) as itwin:
        host.gate = asyncio.Event()
        running = Running(cancel_kind, itwin.sign_in(open_browser=Browser(host)))
        await until(lambda: host.forms)
        running.cancel()
        await asyncio.sleep(0)
        host.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert set(store._tokens.values()) == host.current != set()


async def test_a_lock_that_is_never_free_keeps_no_task_and_no_exit(host):
    store = MemoryTokenStore()
    async with session(host, person(store=store), timeout=0.1) as itwin:
        with store.lock("any"), pytest.raises(TransportError, match="gave nothing within"):
            await itwin.get_me()
        await until(lambda: not store._lock.locked())


async def test_a_clock_that_jumps_changes_nothing(host, monkeypatch):
    async with session(host, person()) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        now = time.time()
        for jump in (1e8, -1e8):
            monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
            await itwin.get_me()
    assert host.refreshes == 0
