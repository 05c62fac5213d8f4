"""Refresh tokens of people who sign in: kept in a store, used one at a time, renewed, revoked."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from itwin_async._aio.loops import background
from itwin_async._aio.threads import DedicatedThread, completed
from itwin_async._core.oauth import (
    AuthorizationRequest,
    code_form,
    parse_refresh_token,
    refresh_form,
    revocation_form,
)
from itwin_async._core.secrets import SecretStr, SecretValue
from itwin_async._sign_in.store_entry import StoreEntry
from itwin_async.auth import Token, TokenRequester, parse_token
from itwin_async.errors import UnauthorizedError
from itwin_async.token_store import TokenStore

_logger = logging.getLogger("itwin_async")
_ADVICE: Final = "call `await itwin.sign_in()`, or run: itwin-async auth login"
_GRACE: Final = 3.0  # seconds in which a response on its way is kept, although nobody waits for it


class RefreshTokens:
    """The refresh tokens of one application, in a store. ``authority`` is a sign-in host's base."""

    def __init__(
        self, client_id: str, secret: SecretStr | None, scope: str, store: TokenStore
    ) -> None:
        self._client_id = client_id
        self._secret = secret
        self._scope = scope
        self._store = store
        self._unsaved: dict[str, SecretStr] = {}  # newer than what the store could keep

    async def check(self, authority: str) -> None:
        """Raise what a store raises that cannot be used."""
        async with self._locked(authority) as entry:
            await entry.load()

    async def renew(self, requester: TokenRequester, authority: str) -> Token:
        """A new access token; `UnauthorizedError` where nobody signed in, or the sign-in ended."""
        async with self._locked(authority) as entry:
            work = background(self._renew(requester, authority, entry), "renewal of a sign-in")
            return await completed(work, grace=_GRACE)

    async def redeem(
        self, requester: TokenRequester, request: AuthorizationRequest, code: SecretStr
    ) -> Token:
        """The access token for a code. A refresh token that comes with it is kept."""
        work = background(self._redeem(requester, request, code), "sign-in")
        return await completed(work, grace=_GRACE)

    async def revoke(self, requester: TokenRequester, authority: str) -> None:
        """Forget the refresh token and revoke it; forgotten also where the host does not answer."""
        async with self._locked(authority) as entry:
            token = await entry.load()
            if token is None:
                return
            await entry.clear()
            form = revocation_form(self._client_id, token, self._secret)
            await requester.post(f"{authority}/connect/revocation", form)

    @asynccontextmanager
    async def _locked(self, authority: str) -> "AsyncGenerator[StoreEntry]":
        """What the store keeps of a sign-in host, locked for all others."""
        key = f"{authority} {self._client_id} {self._scope}"
        thread = DedicatedThread("token store")
        entry = StoreEntry(self._store, self._unsaved, key, thread)
        try:
            try:
                await entry.enter()
                yield entry
            finally:
                await entry.leave()
        finally:
            thread.close()

    async def _renew(self, requester: TokenRequester, authority: str, entry: StoreEntry) -> Token:
        refused: UnauthorizedError | None = None
        used: SecretStr | None = None
        try:
            while (token := await entry.load()) is not None and token != used:
                used, refused = token, None
                try:
                    return await self._refresh(requester, authority, entry, token)
                except UnauthorizedError as error:
                    if error.code != "invalid_grant":
                        raise
                    refused = error
                # Another process that did not lock the store may have renewed it: look again.
            if refused is None:
                raise UnauthorizedError(f"nobody is signed in: {_ADVICE}")
            await entry.clear()
            refused.message = f"the sign-in has ended: {_ADVICE} ({refused.message})"
            raise refused
        finally:
            refused = None  # it leads to this frame

    async def _refresh(
        self,
        requester: TokenRequester,
        authority: str,
        entry: StoreEntry,
        refresh_token: SecretStr,
    ) -> Token:
        form = refresh_form(self._client_id, refresh_token, self._secret)
        answer = SecretValue(await requester.post(_token_url(authority), form))
        newest = parse_refresh_token(answer.value)
        if newest is not None and newest != refresh_token:
            try:
                await entry.save(newest)
            except Exception as error:  # noqa: BLE001 - of a store of the user's own
                _logger.warning(
                    "The token store did not keep a refresh token (%s); it is kept in memory",
                    type(error).__name__,
                )
        return parse_token(answer.value)

    async def _redeem(
        self, requester: TokenRequester, request: AuthorizationRequest, code: SecretStr
    ) -> Token:
        form = code_form(request, code, self._secret)
        answer = SecretValue(await requester.post(_token_url(request.authority), form))
        token = parse_token(answer.value)
        newest = parse_refresh_token(answer.value)
        async with self._locked(request.authority) as entry:
            if newest is None:
                await entry.clear()  # it would be somebody else's
            else:
                await entry.save(newest)
        return token


def _token_url(authority: str) -> str:
    return f"{authority}/connect/token"
