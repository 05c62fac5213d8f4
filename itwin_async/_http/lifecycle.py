"""The life of a session: one loop, one process, and an end that leaves nothing behind."""

import weakref
from typing import Final, Protocol, Self

from itwin_async._aio.loops import LoopBinding
from itwin_async._aio.timeouts import InterruptScope
from itwin_async._http.token_cache import TokenCache
from itwin_async._http.transport import Transport
from itwin_async.errors import TransportError

CLOSED: Final = "this ITwinSession is closed: make a new one"


class BackgroundTask(Protocol):
    """Something in the background that ends with the session."""

    def cancel(self) -> None:
        """End now."""
        ...


class CallScope(InterruptScope):
    """A call under way: closing the session ends it with `RuntimeError`, never in silence."""

    __slots__ = ("_lifecycle",)

    def __init__(self, lifecycle: "SessionLifecycle") -> None:
        self._lifecycle = lifecycle

    def __enter__(self) -> Self:
        self._lifecycle.check_open()
        super().__enter__()
        self._lifecycle.scopes.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._lifecycle.scopes.discard(self)
        super().__exit__(kind, *error)
        if self._lifecycle.closed and kind is not None and issubclass(kind, TransportError):
            raise RuntimeError(CLOSED) from None


class SessionLifecycle:
    """Knows what is under way, and ends it with the session."""

    def __init__(self, transport: Transport, tokens: TokenCache) -> None:
        self.background: Final[set[BackgroundTask]] = set()
        self.scopes: Final[set[InterruptScope]] = set()
        self.closed: bool = False
        self.binding: Final[LoopBinding] = transport.binding
        self._transport = transport
        self._tokens = tokens
        # Not `__del__`: of a cycle that is collected, aiohttp's session might be finalized before.
        self._finalizer = weakref.finalize(self, Transport.finalize, transport)

    def scope(self) -> CallScope:
        """Mark a stretch of a call, so that closing the session ends it."""
        return CallScope(self)

    def check_open(self) -> None:
        """`RuntimeError` in one sentence when the session cannot be used from here."""
        if self.closed:
            raise RuntimeError(CLOSED)
        self.binding.check("ITwinSession")

    async def aclose(self) -> None:
        """Close: running calls raise `RuntimeError`. Doing it twice is fine."""
        if self.closed:
            return
        if self.binding.lost:
            self.closed = True
            self._finalizer()
            return
        if self.binding.loop is not None:
            self.check_open()
        self.closed = True
        self._tokens.close()
        for task in list(self.background):
            task.cancel()
        for scope in list(self.scopes):
            scope.interrupt(RuntimeError(CLOSED))
        try:
            await self._tokens.wait_closed()  # what a sign-in host gave is kept
        finally:
            await self._transport.aclose()
        self._finalizer.detach()
