"""People sign in at the emulator, whose refresh tokens are used once and end when used again."""

import asyncio
from pathlib import Path

import pytest
from sign_in_host import redirect

from itwin_async import (
    FileTokenStore,
    ForbiddenError,
    ITwinSession,
    Retry,
    UnauthorizedError,
    UserSignIn,
)
from itwin_async.emulator import Emulator, Status, Throttle

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


async def sign_in(emulator: Emulator, itwin: ITwinSession, user: str) -> None:
    flow = itwin.begin_sign_in()
    await flow.finish(emulator.sign_in_as(user, flow.url))


def session(emulator: Emulator, provider: UserSignIn) -> ITwinSession:
    return ITwinSession(provider, base_url=emulator.url, retry=Retry(base=0.01))


async def test_each_person_may_do_what_is_theirs() -> None:
    async with (
        Emulator(extended_data_every=2) as emulator,
        session(emulator, UserSignIn(emulator.user_client_id)) as itwin,
    ):
        await sign_in(emulator, itwin, "reader")
        assert (await itwin.get_me()).email == "reader@example.com"
        assert await itwin.imodels.get_extended_data(IMODEL, 1)
        with pytest.raises(ForbiddenError) as caught:
            await itwin.imodels.create_extended_data(IMODEL, 2, {})
        assert caught.value.code == "InsufficientPermissions"
        await sign_in(emulator, itwin, "guest")
        assert [found async for found in itwin.itwins.list_itwins()] == []
        with pytest.raises(ForbiddenError):
            await itwin.imodels.get_imodel(IMODEL)
        await sign_in(emulator, itwin, "owner")
        assert await itwin.imodels.create_extended_data(IMODEL, 2, {})


async def test_a_refresh_token_is_never_used_twice(emulator: Emulator) -> None:
    async with session(emulator, UserSignIn(emulator.user_client_id)) as itwin:
        await sign_in(emulator, itwin, "owner")
        for renewed in range(1, 4):
            emulator.expire_tokens()
            await asyncio.gather(*(itwin.get_me() for _ in range(5)))
            assert emulator.count("token") == 1 + renewed
        emulator.expire_tokens()
        emulator.expire_refresh_tokens()
        with pytest.raises(UnauthorizedError) as caught:
            await itwin.get_me()
        assert caught.value.code == "invalid_grant"


async def test_two_programs_that_share_a_store_do_not_end_the_sign_in(
    emulator: Emulator, tmp_path: Path
) -> None:
    first, second = (
        UserSignIn(emulator.user_client_id, store=FileTokenStore(tmp_path / "logins"))
        for _ in range(2)
    )
    async with session(emulator, first) as one, session(emulator, second) as other:
        await sign_in(emulator, one, "owner")
        for _ in range(4):
            emulator.expire_tokens()
            found = await asyncio.gather(one.get_me(), other.get_me())
            assert {user.email for user in found} == {"owner@example.com"}


@pytest.mark.slow
async def test_a_sign_in_host_that_is_troubled_is_asked_again(emulator: Emulator) -> None:
    async with session(emulator, UserSignIn(emulator.user_client_id)) as itwin:
        emulator.faults.add("token", Status(502))
        await sign_in(emulator, itwin, "owner")
        assert emulator.count("token") == 2
        emulator.faults.add("get_me", Throttle(0))
        assert (await itwin.get_me()).display_name == "Owner Example"


async def test_who_signed_out_is_out(emulator: Emulator, tmp_path: Path) -> None:
    provider = UserSignIn(emulator.user_client_id, store=FileTokenStore(tmp_path / "logins"))
    async with session(emulator, provider) as itwin:
        await sign_in(emulator, itwin, "owner")
        await itwin.sign_out()
        assert emulator.count("revocation") == 1
        with pytest.raises(UnauthorizedError):
            await itwin.get_me()


async def test_a_web_application_shows_its_secret() -> None:
    address = "https://app.example/signed-in"
    async with Emulator(redirect_uris=[address]) as emulator:
        client_id, secret = emulator.web_client
        provider = UserSignIn(client_id, client_secret=secret, redirect_uris=(address,))
        async with session(emulator, provider) as itwin:
            await sign_in(emulator, itwin, "owner")
            emulator.expire_tokens()
            assert (await itwin.get_me()).email == "owner@example.com"


async def test_an_address_that_is_not_registered_leads_nowhere(emulator: Emulator) -> None:
    provider = UserSignIn(emulator.user_client_id, redirect_uris=(redirect(),))
    async with session(emulator, provider) as itwin:
        with pytest.raises(ValueError, match="redirect_uri is not one of those registered"):
            await sign_in(emulator, itwin, "owner")
