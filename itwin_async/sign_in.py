"""Signing in as a person: the provider, the page in a browser, and the address that comes back."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final, NoReturn

from itwin_async._aio.loops import background
from itwin_async._aio.threads import DedicatedThread, completed
from itwin_async._core.oauth import (
    AuthorizationRequest,
    authorization_request,
    check_authority,
    check_redirect,
    code_form,
    parse_redirect,
    parse_refresh_token,
    query_of,
    refresh_form,
    revocation_form,
)
from itwin_async._core.secrets import SecretStr, SecretValue
from itwin_async._core.urls import split
from itwin_async._core.validation import check_text
from itwin_async._sign_in.browser import OpenBrowser, in_browser, link_html, open_address
from itwin_async._sign_in.page import SharedSignIn, SignInPage
from itwin_async._sign_in.store_entry import StoreEntry
from itwin_async.auth import Token, TokenRequester, parse_token, sign_in_host
from itwin_async.errors import ServerError, TransportError, UnauthorizedError
from itwin_async.token_store import MemoryTokenStore, TokenStore

__all__ = ["OpenBrowser", "SignInFlow", "UserSignIn", "in_browser"]

_logger = logging.getLogger("itwin_async")
_SCOPE: Final = "itwin-platform offline_access"
_REDIRECTS: Final = ("http://localhost:3000/signin-callback",)
_ADVICE: Final = "call `await itwin.sign_in()`, or run: itwin-async auth login"
_BROWSER_LINGER: Final = 1.0  # seconds for a browser of the caller's own to come to its end
_GRACE: Final = 3.0  # seconds in which a response on its way is kept, although nobody waits for it


class UserSignIn:
    """A person who signs in with a browser (OAuth authorization code with PKCE).

    ``client_id`` is that of an application of the type Desktop/Mobile, or of a Web App with its
    ``client_secret``. ``redirect_uris`` are registered with it: `ITwinSession.sign_in` listens on
    the first on loopback whose port is free, and `ITwinSession.begin_sign_in` uses the first.
    ``authority`` is the base of the sign-in host; without one it is the host that belongs to the
    session's base, or on loopback the base itself. ``store`` keeps the refresh token, and nothing
    else, between two runs; without one it is kept in memory.

    The access token is renewed with the refresh token, one renewal at a time, and the newest
    refresh token is kept. Where nobody is signed in, requests raise `UnauthorizedError`; only
    `ITwinSession.sign_in` ever opens a browser. Raises `TypeError` or `ValueError` for what cannot
    be used.
    Platform page: https://developer.bentley.com/apis/overview/authorization/native-spa/
    """

    def __init__(
        self,
        client_id: str,
        *,
        client_secret: str | None = None,
        redirect_uris: Sequence[str] = _REDIRECTS,
        authority: str | None = None,
        scope: str = _SCOPE,
        store: TokenStore | None = None,
    ) -> None:
        secret = SecretValue(client_secret)
        del client_secret  # a report of an error shows the locals of its frames
        check_text("client_id", client_id, optional=False)
        check_text("client_secret", secret.value)
        if secret.value is not None and not secret.value.strip():
            raise ValueError("client_secret must not be empty: leave it out where there is none")
        check_text("scope", scope, optional=False)
        check_text("authority", authority)
        given: object = redirect_uris
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise TypeError("redirect_uris must be a sequence of str, such as a tuple of one")
        if not redirect_uris:
            raise ValueError("redirect_uris must not be empty")
        for uri in redirect_uris:
            check_text("a redirect_uri", uri, optional=False)
            check_redirect(uri)
        known: object = store
        if known is not None and (isinstance(known, type) or not isinstance(known, TokenStore)):
            raise TypeError("store must have the methods of TokenStore: load, save, clear and lock")
        self.client_id: Final = client_id
        self.redirect_uris: Final = tuple(redirect_uris)
        self.authority: Final = None if authority is None else check_authority(authority)
        self.scope: Final = " ".join(scope.split())
        self._secret: Final = None if secret.value is None else SecretStr(secret.value)
        self._store: Final[TokenStore] = MemoryTokenStore() if store is None else store
        self._unsaved: dict[str, SecretStr] = {}  # newer than what the store could keep
        self._under_way: SharedSignIn | None = None

    def __repr__(self) -> str:
        if not hasattr(self, "_under_way"):  # a report of an error in its making
            return "UserSignIn()"
        return f"UserSignIn({self.client_id!r}, authority={self.authority!r}, scope={self.scope!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a UserSignIn does not pickle: make one in each process, with one store")

    def authority_at(self, base_url: str) -> str:
        """The base of the sign-in host for a session's base; `ValueError` where none is known."""
        if self.authority is not None:
            return self.authority
        host = sign_in_host(base_url)
        if host is not None:
            return host
        parts = split(base_url)
        if parts is not None and parts[0].is_loopback:
            return base_url
        raise ValueError(f"no sign-in host is known for {base_url}: give UserSignIn an authority")

    async def get_token(self, sign_in: TokenRequester, /) -> Token:
        """A new access token for the person who signed in.

        Raises `UnauthorizedError` where nobody did, or where the sign-in has ended.
        """
        async with self._locked(self._key(sign_in)) as entry:
            work = background(self._renew(sign_in, entry), "renewal of a sign-in")
            return await completed(work, grace=_GRACE)

    def begin(self, requester: TokenRequester, redirect_uri: str) -> AuthorizationRequest:
        """A sign-in that ends with `redeem`."""
        authority = self.authority_at(requester.base_url)
        return authorization_request(authority, self.client_id, redirect_uri, self.scope)

    async def redeem(
        self, requester: TokenRequester, request: AuthorizationRequest, code: SecretStr
    ) -> Token:
        """The access token for a code. A refresh token that comes with it is kept."""
        work = background(self._redeem(requester, request, code), "sign-in")
        return await completed(work, grace=_GRACE)

    async def sign_in(
        self, requester: TokenRequester, *, open_browser: OpenBrowser, seconds: float
    ) -> Token:
        """The access token of who signs in with a browser. All that call it meanwhile share it."""
        under_way = self._under_way
        if under_way is None or not under_way.joinable():
            under_way = self._under_way = SharedSignIn()
            under_way.begin(self._listen_and_redeem(requester, open_browser, under_way))
        return await under_way.wait(seconds)

    async def sign_out(self, requester: TokenRequester) -> None:
        """Revoke the refresh token and forget it, also where the sign-in host does not answer."""
        key = self._key(requester)
        async with self._locked(key) as entry:
            token = await entry.load()
            if token is None:
                return
            await entry.clear()
            form = revocation_form(self.client_id, token, self._secret)
            url = f"{self.authority_at(requester.base_url)}/connect/revocation"
            await requester.post(url, form)

    def _key(self, requester: TokenRequester) -> str:
        return f"{self.authority_at(requester.base_url)} {self.client_id} {self.scope}"

    @asynccontextmanager
    async def _locked(self, key: str) -> "AsyncGenerator[StoreEntry]":
        """What the store keeps under a key, locked for all others."""
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

    async def _renew(self, requester: TokenRequester, entry: "StoreEntry") -> Token:
        refused: UnauthorizedError | None = None
        used: SecretStr | None = None
        try:
            while (token := await entry.load()) is not None and token != used:
                used, refused = token, None
                try:
                    return await self._refresh(requester, entry, token)
                except UnauthorizedError as error:
                    if error.code != "invalid_grant":
                        raise
                    refused = error
                # Another process that did not lock the store may have renewed it: look again.
            if refused is None:
                raise UnauthorizedError(f"nobody is signed in: {_ADVICE}")
            await entry.clear()
            refused.message = f"the sign-in has ended: {_ADVICE} ({refused.message})"
            refused.args = (refused.message,)
            raise refused
        finally:
            refused = None  # it leads to this frame

    async def _refresh(
        self, requester: TokenRequester, entry: "StoreEntry", refresh_token: SecretStr
    ) -> Token:
        form = refresh_form(self.client_id, refresh_token, self._secret)
        answer = SecretValue(await requester.post(self._token_url(requester), form))
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
        answer = SecretValue(await requester.post(self._token_url(requester), form))
        token = parse_token(answer.value)
        newest = parse_refresh_token(answer.value)
        async with self._locked(self._key(requester)) as entry:
            if newest is None:
                await entry.clear()  # it would be somebody else's
            else:
                await entry.save(newest)
        return token

    def _token_url(self, requester: TokenRequester) -> str:
        return f"{self.authority_at(requester.base_url)}/connect/token"

    async def _listen_and_redeem(
        self, requester: TokenRequester, open_browser: OpenBrowser, under_way: "SharedSignIn"
    ) -> Token:
        async with self._locked(self._key(requester)) as entry:
            await entry.load()  # a store that cannot be used is refused before anybody signs in
        listener = await self._listen(requester)
        async with listener.server:
            opening = background(open_address(open_browser, listener.request.url), "browser")
            answer = background(listener.server.wait(), "answer of the browser")
            try:
                await asyncio.wait([opening, answer], return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    await opening  # or what it raises
                    await answer
                elif callable(open_browser):  # it may still read the page
                    await asyncio.wait([opening], timeout=_BROWSER_LINGER)
            finally:
                opening.cancel()
                answer.cancel()
                await asyncio.wait([opening, answer])
                if not opening.cancelled():
                    opening.exception()  # looked at, or asyncio complains
        under_way.answered.set()
        return await self.redeem(requester, listener.request, listener.take())

    async def _listen(self, requester: TokenRequester) -> "SignInPage":
        """Listen on the first redirect address on loopback whose port is free."""
        reasons: list[str] = []
        for uri in self.redirect_uris:
            origin = check_redirect(uri)
            if origin.scheme != "http":
                continue
            listener = SignInPage(self.begin(requester, uri))
            try:
                await listener.server.start()
            except OSError as error:
                number = error.errno or 0
                reasons.append(f"port {origin.port}: {os.strerror(number) if number else error}")
            else:
                return listener
        if not reasons:
            raise ValueError(
                "none of redirect_uris is http on loopback, where sign_in could listen: use "
                "begin_sign_in"
            )
        raise OSError(
            errno.EADDRINUSE,
            f"no address of redirect_uris can be listened on: {', '.join(reasons)}",
        )


class SignInFlow:
    """A sign-in whose browser runs elsewhere: open `url`, then `finish` with where it led to."""

    def __init__(
        self,
        provider: UserSignIn,
        requester: TokenRequester,
        running: Callable[[], AbstractContextManager[object]],
        signed_in: Callable[[Token], None],
    ) -> None:
        self._provider = provider
        self._requester = requester
        self._running = running
        self._signed_in = signed_in
        self._request: Final = provider.begin(requester, provider.redirect_uris[0])
        self._over = False

    def __repr__(self) -> str:
        return f"SignInFlow({self._request.authority}, redirect_uri={self._request.redirect_uri!r})"

    def _repr_html_(self) -> str:
        return (
            f"{link_html(self.url)}<p>then <code>await flow.finish(address)</code> with the "
            "address that the browser was sent to</p>"
        )

    @property
    def url(self) -> str:
        """The address to open in a browser, by the person who signs in."""
        return self._request.url

    async def finish(self, address: str) -> None:
        """Sign in with the address that the browser was sent to, which may show an error there.

        Raises `ValueError` for the address of another sign-in, after which this one can still be
        finished, and `UnauthorizedError`, with the host's ``code``, where it was refused.
        """
        kind: type[object] = type(address)
        query = query_of(SecretStr(address)) if issubclass(kind, str) else None
        del address  # a report of an error shows the locals of its frames
        if query is None:
            raise TypeError(f"address must be a str, not {kind.__name__}")
        with self._running():
            code = parse_redirect(self._request, query)
            if self._over:
                raise ValueError("this sign-in is over: begin another")
            self._over = True
            try:
                token = await self._provider.redeem(self._requester, self._request, code)
            except (TransportError, ServerError, asyncio.CancelledError):
                self._over = False  # the code may still be good
                raise
            self._signed_in(token)
