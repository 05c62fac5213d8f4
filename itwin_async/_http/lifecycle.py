"""Lifecycle of a session: one loop, one process, and an end that leaves nothing open.

How sessions and lists are closed, also by a collector: docs/adr/0004.
"""

import weakref
from typing import Final, Protocol, Self

from itwin_async._aio.loops import LoopBinding
from itwin_async._aio.timeouts import InterruptScope
from itwin_async._http.token_cache import TokenCache
from itwin_async._http.transport import Transport
from itwin_async.errors import TransportError

CLOSED: Final = "this ITwinSession is closed: make a new one"


class BackgroundTask(Protocol):
    """Work in the background that ends with the session."""

    def cancel(self) -> None:
        """End it now."""
        ...


class CallScope(InterruptScope):
    """A block of a call. Closing the session ends it with `RuntimeError`."""

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
        if kind is None and self._error is None:
            return
        super().__exit__(kind, *error)
        if self._lifecycle.closed and kind is not None and issubclass(kind, TransportError):
            raise RuntimeError(CLOSED) from None


class SessionLifecycle:
    """Knows the calls and background tasks of a session, and ends them when it is closed."""

    def __init__(self, transport: Transport, tokens: TokenCache) -> None:
        self.background: Final[set[BackgroundTask]] = set()
        self.scopes: Final[set[InterruptScope]] = set()
        self.closed: bool = False
        self.binding: Final[LoopBinding] = transport.binding
        self._transport = transport
        self._tokens = tokens
        self._finalizer = weakref.finalize(self, Transport.finalize, transport)

    def scope(self) -> CallScope:
        """A block of a call, which closing the session ends."""
        return CallScope(self)

    def check_open(self) -> None:
        """Raise `RuntimeError` if the session is closed, or of another loop or process."""
        if self.closed:
            raise RuntimeError(CLOSED)
        self.binding.check("ITwinSession")

    async def aclose(self) -> None:
        """Close the session: running calls raise `RuntimeError`. A second time does nothing."""
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
