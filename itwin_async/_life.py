"""The life of a session: one loop, one process, and an end that leaves nothing behind."""

import asyncio
import contextlib
import os
from typing import Final, Protocol, Self

from itwin_async._interrupt import Interruptible
from itwin_async._tokens import Tokens
from itwin_async._transport import Transport
from itwin_async.errors import TransportError

CLOSED: Final = "this ITwinSession is closed: make a new one"
_LEFT_TO_THE_PARENT: Final[list[Transport]] = []


class Owned(Protocol):
    """Something in the background that ends with the session."""

    def drop(self) -> None:
        """End now."""
        ...


class Running(Interruptible):
    """A call under way: closing the session ends it with `RuntimeError`, never in silence."""

    __slots__ = ("_life",)

    def __init__(self, life: "Life") -> None:
        self._life = life

    def __enter__(self) -> Self:
        self._life.check_open()
        super().__enter__()
        self._life.calls.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._life.calls.discard(self)
        super().__exit__(kind, *error)
        if self._life.closed and kind is not None and issubclass(kind, TransportError):
            raise RuntimeError(CLOSED) from None


class Life:
    """Knows what is under way, and ends it with the session."""

    def __init__(self, transport: Transport, tokens: Tokens) -> None:
        self.owned: Final[set[Owned]] = set()
        self.calls: Final[set[Interruptible]] = set()
        self.closed: bool = False
        self._transport = transport
        self._tokens = tokens
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    def running(self) -> Running:
        """Mark a stretch of a call, so that closing the session ends it."""
        return Running(self)

    def check_open(self) -> None:
        """`RuntimeError` in one sentence when the session cannot be used from here."""
        if self.closed:
            raise RuntimeError(CLOSED)
        if self._pid != os.getpid():
            raise RuntimeError("this ITwinSession was made before a fork: make one per process")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise RuntimeError(
                    "this ITwinSession belongs to another event loop: make one per loop"
                )
            self._loop = loop

    def _end(self) -> None:
        self.closed = True
        self._tokens.close()
        for thing in list(self.owned):
            thing.drop()

    def abandon(self) -> None:
        """Close at once, without a loop to wait in: nobody can be waiting for this session."""
        if self._pid != os.getpid():
            self.closed = True
            _LEFT_TO_THE_PARENT.append(self._transport)  # closing here would close it there
        elif not self.closed:
            self._end()
            self._transport.abandon()

    def __del__(self) -> None:
        # Nobody has the session, a group or a list any more. (There is no cycle, so this is now.)
        with contextlib.suppress(Exception):
            self.abandon()

    async def aclose(self) -> None:
        """Close: running calls raise `RuntimeError`. Doing it twice is fine."""
        if self.closed:
            return
        if self._pid != os.getpid() or (self._loop is not None and self._loop.is_closed()):
            self.abandon()
            return
        if self._loop is not None:
            self.check_open()
        self._end()
        for call in list(self.calls):
            call.interrupt(RuntimeError(CLOSED))
        await self._transport.aclose()
