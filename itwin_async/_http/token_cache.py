"""Token cache of a session: one renewal at a time, ahead of expiry, by a monotonic clock.

All callers that wait for a token share its renewal ("single flight").
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NoReturn

import anyio

from itwin_async._aio.loops import background
from itwin_async._aio.timeouts import Timeout
from itwin_async._core.secrets import SecretValue
from itwin_async.auth import Token, TokenProvider, TokenRequester, TokenSource
from itwin_async.errors import is_own, own_copy

_logger = logging.getLogger("itwin_async")
# A share of a token's lifetime, and seconds at most. From the first margin on it is renewed in the
# background; within the second one it is not used any more, for it could expire on its way. The
# platform's own clients use 600 and 60 s of 3,600.
REFRESH_MARGIN: Final = (0.2, 300.0)
EXPIRY_MARGIN: Final = (0.05, 60.0)
_MAX_END: Final = 5.0  # seconds that a provider may take to end, such as to keep what it was given
_REFRESH_INTERVAL: Final = 1.0  # seconds between two renewals in the background that fail


class _Failure:
    """A renewal that failed. Each waiter raises a copy, without the tracebacks of the others."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        # Of a foreign error the traceback says where the provider raised it.
        self._traceback = None if is_own(error) else error.__traceback__

    def throw(self) -> NoReturn:
        """Raise a copy."""
        raise own_copy(self._error).with_traceback(self._traceback) from self._error.__cause__


class _BoundedRequester:
    """A `TokenRequester` whose requests have their own time limits and stop the provider's."""

    def __init__(self, requester: TokenRequester, timeout: Timeout) -> None:
        self.base_url: Final = requester.base_url
        self._requester = requester
        self._timeout = timeout
        self._in_flight = 0

    async def post(self, url: str, form: Mapping[str, str]) -> object:
        """The decoded JSON of a success; everything else raises the library's errors."""
        self._in_flight += 1
        self._timeout.suspend()
        try:
            return await self._requester.post(url, form)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._timeout.resume()


class TokenCache:
    """Keeps the token of a session. A cancelled waiter does not cancel the renewal.

    ``timeout`` is the time in seconds that the provider may take, besides that of its requests.
    """

    def __init__(
        self, source: TokenSource, *, timeout: float, on_renewed: Callable[[Token], object]
    ) -> None:
        self._source = source
        self._timeout = timeout
        self._on_renewed = on_renewed
        self._token: Token | None = None
        self._refresh_at = self._expires_at = 0.0
        self._renewal: asyncio.Task[Token | _Failure] | None = None
        self._replaced = 0  # how often somebody signed in or out: a renewal from before is old
        self._closed = False

    def usable(self, requester: TokenRequester) -> Token | None:
        """The token if it can be used now, else None; starts a renewal when it expires soon."""
        token = self._token
        if token is None or token.expires_in is None:
            return token
        now = asyncio.get_running_loop().time()
        if now >= self._expires_at:
            return None
        if now >= self._refresh_at:
            self._refresh_at = now + _REFRESH_INTERVAL
            self._renew(requester)
        return token

    async def get(self, requester: TokenRequester) -> Token:
        """Wait for a usable token. Raises what the provider raises, a copy in each waiter.

        A foreign error that cannot be copied is the same object for all.
        """
        token = self.usable(requester)
        if token is None:
            renewal = self._renew(requester)
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
            token = self.usable(requester) or outcome
        return token

    def invalidate(self, token: Token) -> None:
        """Forget a token that the platform rejected, unless there is another one already."""
        if self._token is token:
            self._token = None

    def replace(self, token: Token | None) -> None:
        """Use this token from now on; with None, ask the provider for the next one."""
        self._replaced += 1
        self._keep(token)

    def close(self) -> None:
        """Cancel a renewal that is under way."""
        self._closed = True
        if self._renewal is not None:
            self._renewal.cancel()

    async def wait_closed(self) -> None:
        """Wait, for a few seconds at most, until a renewal that was cancelled has ended."""
        renewal = self._renewal
        if renewal is not None and renewal is not asyncio.current_task():
            with anyio.CancelScope(shield=True):  # a cancelled block closes its session as well
                await asyncio.wait([renewal], timeout=_MAX_END)

    def _renew(self, requester: TokenRequester) -> "asyncio.Task[Token | _Failure]":
        if self._renewal is None:
            self._renewal = background(self._try(requester), "token")
            self._renewal.add_done_callback(self._on_done)
        return self._renewal

    def _on_done(self, renewal: "asyncio.Task[Token | _Failure]") -> None:
        self._renewal = None
        failed = not renewal.cancelled() and isinstance(renewal.result(), _Failure)
        if failed and self._token is not None:
            _logger.warning(
                "A token could not be renewed before it expires; it will be tried again"
            )

    def _call_source(self, requester: TokenRequester) -> Awaitable[object]:
        source = self._source
        result = SecretValue(
            source.get_token(requester) if isinstance(source, TokenProvider) else source()
        )
        if not inspect.isawaitable(result.value):
            raise TypeError("a token provider must be an async callable, or have async get_token()")
        return result.value

    async def _try(self, requester: TokenRequester) -> "Token | _Failure":
        try:
            return await self._fetch(requester)
        except Exception as error:  # noqa: BLE001 - raised to each waiter
            return _Failure(error)

    async def _fetch(self, requester: TokenRequester) -> Token:
        limit, replaced = self._timeout, self._replaced
        with Timeout(limit, f"the token provider gave nothing within {limit:g} s") as timeout:
            try:
                result = SecretValue(await self._call_source(_BoundedRequester(requester, timeout)))
            finally:
                timeout.cancel()
        if not isinstance(result.value, str | Token):
            kind = type(result.value).__name__
            raise TypeError(f"a token provider must give a Token, not {kind}")
        token = result.value if isinstance(result.value, Token) else Token(result.value)
        if replaced == self._replaced:
            self._keep(token)
        self._on_renewed(token)
        return token

    def _keep(self, token: Token | None) -> None:
        lifetime = None if token is None else token.expires_in
        if lifetime is not None:
            now = asyncio.get_running_loop().time()
            self._refresh_at = now + lifetime - min(lifetime * REFRESH_MARGIN[0], REFRESH_MARGIN[1])
            self._expires_at = now + lifetime - min(lifetime * EXPIRY_MARGIN[0], EXPIRY_MARGIN[1])
        self._token = token
