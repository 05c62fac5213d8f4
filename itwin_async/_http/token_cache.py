"""The session's token: fetched once for a crowd, renewed ahead of its end, by a monotonic clock."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Mapping
from typing import Final, NoReturn, Protocol

from itwin_async._aio.loops import background
from itwin_async._aio.timeouts import Timeout
from itwin_async._core.secrets import SecretValue
from itwin_async.auth import Token, TokenProvider, TokenRequester, TokenSource
from itwin_async.errors import is_own, own_copy

_logger = logging.getLogger("itwin_async")
# Shares of a token's life, and seconds at most: early is tolerant (the old token still serves),
# late is strict (it could end on its way). The platform's own clients use 60 and 600 s of 3,600.
REFRESH_MARGIN: Final = (0.2, 300.0)
EXPIRY_MARGIN: Final = (0.05, 60.0)
_MAX_END: Final = 5.0  # seconds that a provider may take to end, such as to keep what it was given
_SOONEST: Final = 1.0  # seconds between two early renewals that fail


class Lender(TokenRequester, Protocol):
    """Who sends a provider's requests, and is told of a new token."""

    @property
    def timeout(self) -> float:
        """Seconds that a provider may take, besides the time of the requests sent for it."""
        ...

    def renewed(self, token: Token) -> None:
        """A token was fetched."""
        ...


class _Failure:
    """A renewal that failed: for each waiter an error without the tracebacks of the others."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        # Where a foreign error comes from is its provider's affair; ours say what happened.
        self._traceback = None if is_own(error) else error.__traceback__

    def throw(self) -> NoReturn:
        """Raise it once more."""
        raise own_copy(self._error).with_traceback(self._traceback) from self._error.__cause__


class _BoundedSignIn:
    """What a provider is lent: its requests have limits of their own, and stop the provider's."""

    def __init__(self, lender: Lender, timeout: Timeout) -> None:
        self.base_url: Final = lender.base_url
        self._lender = lender
        self._timeout = timeout
        self._under_way = 0

    async def post(self, url: str, form: Mapping[str, str]) -> object:
        """The decoded JSON of a successful answer; everything else raises the library's errors."""
        self._under_way += 1
        self._timeout.suspend()
        try:
            return await self._lender.post(url, form)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._timeout.resume()


class TokenCache:
    """Keeps one token. A cancelled waiter cancels nobody else's renewal."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._token: Token | None = None
        self._early = self._late = 0.0
        self._renewal: asyncio.Task[Token | _Failure] | None = None
        self._replaced = 0  # how often somebody signed in or out: a renewal from before is old
        self._closed = False

    def ready(self, lender: Lender, now: float) -> Token | None:
        """The token, if it can be used now; starts a renewal when its end is near."""
        token = self._token
        if token is None or token.expires_in is None:
            return token
        if now >= self._late:
            return None
        if now >= self._early:
            self._early = now + _SOONEST
            self._renew(lender)
        return token

    async def get(self, lender: Lender) -> Token:
        """A token that can be used. Raises what the provider raises, to each waiter its own copy.

        A foreign error that cannot be copied is the same object for all.
        """
        loop = asyncio.get_running_loop()
        token = self.ready(lender, loop.time())
        if token is None:
            renewal = self._renew(lender)
            if renewal is asyncio.current_task():
                raise RuntimeError("a token provider must not use the session that waits for it")
            await asyncio.wait([renewal])  # cancelling this waiter leaves the renewal alone
            if renewal.cancelled():
                who = (
                    "the session was closed" if self._closed else "the token provider was cancelled"
                )
                raise RuntimeError(f"{who} while it fetched a token")
            outcome = renewal.result()
            if isinstance(outcome, _Failure):
                outcome.throw()
            token = self.ready(lender, loop.time()) or outcome
        return token

    def invalidate(self, token: Token) -> None:
        """Forget this very token, because the platform refused it."""
        if self._token is token:
            self._token = None

    def replace(self, token: Token | None) -> None:
        """Use this token from now on; with None, ask the provider for the next one."""
        self._replaced += 1
        self._keep(token)

    def close(self) -> None:
        """Stop a renewal that is under way."""
        self._closed = True
        if self._renewal is not None:
            self._renewal.cancel()

    async def wait_closed(self) -> None:
        """Wait, for a few seconds at most, until a renewal that was stopped has ended."""
        renewal = self._renewal
        if renewal is not None and renewal is not asyncio.current_task():
            await asyncio.wait([renewal], timeout=_MAX_END)

    def _renew(self, lender: Lender) -> "asyncio.Task[Token | _Failure]":
        if self._renewal is None:
            self._renewal = background(self._try(lender), "token")
            self._renewal.add_done_callback(self._done)
        return self._renewal

    def _done(self, renewal: "asyncio.Task[Token | _Failure]") -> None:
        self._renewal = None
        failed = not renewal.cancelled() and isinstance(renewal.result(), _Failure)
        if failed and self._token is not None:
            _logger.warning("A token could not be renewed ahead of its end; it will be tried again")

    def _coming(self, sign_in: TokenRequester) -> Awaitable[object]:
        source = self._source
        if isinstance(source, TokenProvider):
            return source.get_token(sign_in)
        coming: object = source()
        if not inspect.isawaitable(coming):
            raise TypeError("a token provider must be an async callable or have get_token()")
        return coming

    async def _try(self, lender: Lender) -> "Token | _Failure":
        try:
            return await self._fetch(lender)
        except Exception as error:  # noqa: BLE001 - raised to each waiter
            return _Failure(error)

    async def _fetch(self, lender: Lender) -> Token:
        limit, replaced = lender.timeout, self._replaced
        with Timeout(limit, f"the token provider gave nothing within {limit:g} s") as timeout:
            try:
                given = SecretValue(await self._coming(_BoundedSignIn(lender, timeout)))
            finally:
                timeout.cancel()
        token = Token(given.value) if isinstance(given.value, str) else given.value
        if not isinstance(token, Token):
            raise TypeError(f"a token provider must give a Token, not {type(token).__name__}")
        if replaced == self._replaced:
            self._keep(token)
        lender.renewed(token)
        return token

    def _keep(self, token: Token | None) -> None:
        lifetime = None if token is None else token.expires_in
        if lifetime is not None:
            now = asyncio.get_running_loop().time()
            self._early = now + lifetime - min(lifetime * REFRESH_MARGIN[0], REFRESH_MARGIN[1])
            self._late = now + lifetime - min(lifetime * EXPIRY_MARGIN[0], EXPIRY_MARGIN[1])
        self._token = token
