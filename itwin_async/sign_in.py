"""Signing in as a person: the provider, and the methods of a session that use it."""

import functools
from collections.abc import Sequence
from typing import Final, NoReturn

from itwin_async._core.oauth import (
    AuthorizationRequest,
    authorization_request,
    check_authority,
    check_redirect,
)
from itwin_async._core.secrets import SecretStr, SecretValue
from itwin_async._core.urls import split
from itwin_async._core.validation import check_seconds, check_text
from itwin_async._http.executor import RequestExecutor
from itwin_async._sign_in.browser import OpenBrowser, check_open_browser, in_browser
from itwin_async._sign_in.flow import SignInFlow
from itwin_async._sign_in.page import SharedSignIn, listen
from itwin_async._sign_in.refresh_tokens import RefreshTokens
from itwin_async.auth import Token, TokenRequester, TokenSource, sign_in_host
from itwin_async.token_store import MemoryTokenStore, TokenStore
from itwin_async.users import GET_ME, User

__all__ = ["OpenBrowser", "SignInCalls", "SignInFlow", "UserSignIn", "in_browser"]

_SCOPE: Final = "itwin-platform offline_access"
_REDIRECTS: Final = ("http://localhost:3000/signin-callback",)


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
        self._tokens: Final = RefreshTokens(
            client_id,
            None if secret.value is None else SecretStr(secret.value),
            self.scope,
            MemoryTokenStore() if store is None else store,
        )
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
        raise ValueError(
            f"no sign-in host is known for {base_url}: give UserSignIn an authority "
            "(ITWIN_AUTHORITY)"
        )

    async def get_token(self, sign_in: TokenRequester, /) -> Token:
        """A new access token for the person who signed in.

        Raises `UnauthorizedError` where nobody did, or where the sign-in has ended.
        """
        return await self._tokens.renew(sign_in, self.authority_at(sign_in.base_url))

    def begin(self, requester: TokenRequester, redirect_uri: str) -> AuthorizationRequest:
        """A sign-in that ends with `redeem`."""
        authority = self.authority_at(requester.base_url)
        return authorization_request(authority, self.client_id, redirect_uri, self.scope)

    async def redeem(
        self, requester: TokenRequester, request: AuthorizationRequest, code: SecretStr
    ) -> Token:
        """The access token for a code. A refresh token that comes with it is kept."""
        return await self._tokens.redeem(requester, request, code)

    async def sign_in(
        self, requester: TokenRequester, *, open_browser: OpenBrowser, seconds: float
    ) -> Token:
        """The access token of who signs in with a browser. All that call it meanwhile share it."""
        under_way = self._under_way
        if under_way is None or not under_way.joinable():
            under_way = self._under_way = SharedSignIn()
            under_way.begin(self._open_and_redeem(requester, open_browser, under_way))
        return await under_way.wait(seconds)

    async def sign_out(self, requester: TokenRequester) -> None:
        """Revoke the refresh token and forget it, also where the sign-in host does not answer."""
        await self._tokens.revoke(requester, self.authority_at(requester.base_url))

    async def _open_and_redeem(
        self, requester: TokenRequester, open_browser: OpenBrowser, under_way: SharedSignIn
    ) -> Token:
        # A store that cannot be used is refused before anybody signs in.
        await self._tokens.check(self.authority_at(requester.base_url))
        page = await listen([self.begin(requester, uri) for uri in self.redirect_uris])
        code = await page.receive_code(open_browser)
        under_way.answered.set()
        return await self.redeem(requester, page.request, code)


class SignInCalls:
    """The part of `ITwinSession` about the person, or the application, whose token it has."""

    _executor: RequestExecutor
    _token_provider: TokenSource

    async def sign_in(
        self,
        *,
        open_browser: OpenBrowser = True,
        timeout: float = 180.0,  # noqa: ASYNC109 - of the person, not of the await
    ) -> None:
        """Sign in as a person with a browser on this machine; for a session with a `UserSignIn`.

        Listens on loopback for the browser to come back, opens it and waits ``timeout`` seconds.
        Where no browser can be opened, or ``open_browser`` is False, the address is shown: as a
        link in a notebook, else in a line on standard error. ``open_browser`` may also be a
        callable, which is given the address in the event loop; what it returns may be awaitable.
        Calls at the same time share one browser page.

        Raises `TransportError` with the reason "timeout" where nobody came back, and
        `UnauthorizedError` with the host's ``code`` where the sign-in was refused. Raises
        `RuntimeError` for a session with another provider, and `OSError` where no port of the
        redirect addresses is free or the token store cannot be used::

            itwin = ITwinSession(UserSignIn("my-client-id"))
            await itwin.sign_in()
        """
        check_open_browser(open_browser)
        check_seconds("timeout", timeout)
        provider = self._user_sign_in()
        with self._executor.lifecycle.scope():
            token = await provider.sign_in(
                self._executor.external, open_browser=open_browser, seconds=timeout
            )
            self._executor.tokens.replace(token)

    def begin_sign_in(self) -> SignInFlow:
        """Begin to sign in a person whose browser runs elsewhere; for a `UserSignIn`.

        For a remote kernel, SSH and web applications: let the person open ``flow.url``, and await
        ``flow.finish(address)`` with the address that the browser was sent to, also when the page
        there cannot be shown. It comes back to the first of the provider's ``redirect_uris``.
        """
        provider, executor = self._user_sign_in(), self._executor
        return SignInFlow(
            provider.begin(executor.external, provider.redirect_uris[0]),
            functools.partial(provider.redeem, executor.external),
            executor.lifecycle.scope,
            executor.tokens.replace,
        )

    async def sign_out(self) -> None:
        """Revoke the refresh token of who signed in, and forget it; for a `UserSignIn`.

        It is forgotten even where that fails. The access token goes on to be valid until its end,
        at most an hour, but this session no longer has it.
        """
        provider = self._user_sign_in()
        with self._executor.lifecycle.scope():
            self._executor.tokens.replace(None)
            try:
                await provider.sign_out(self._executor.external)
            finally:
                self._executor.tokens.replace(None)

    async def get_me(self) -> User:
        """The person whose token this is.

        Platform page: https://developer.bentley.com/apis/users/operations/me/
        """
        answer = await self._executor.execute_decoded(GET_ME.request())
        return answer.user

    async def get_token(self) -> Token:
        """A token that can be used now, for a tool of your own; never log it."""
        with self._executor.lifecycle.scope():
            return await self._executor.tokens.get(self._executor.external)

    def _user_sign_in(self) -> UserSignIn:
        if not isinstance(self._token_provider, UserSignIn):
            raise RuntimeError(  # noqa: TRY004 - no argument is wrong
                "only a session with a UserSignIn as its token provider signs a person in, not one "
                f"with {type(self._token_provider).__name__}"
            )
        return self._token_provider
