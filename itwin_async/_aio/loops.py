"""The event loop and the process that something belongs to, and how it is reached from outside."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class LoopBinding:
    """The event loop and the process in which something was first used."""

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop; None before the first use."""
        return self._loop

    @property
    def forked(self) -> bool:
        """Whether this is a forked child's copy, whose loop and sockets the parent goes on using.

        Touching them would take them from the parent: both processes share one epoll.
        """
        return self._loop is not None and self._pid != os.getpid()

    @property
    def lost(self) -> bool:
        """Whether nothing may be done with the loop any more: it is closed, or the parent's."""
        return self._loop is not None and (self._loop.is_closed() or self._pid != os.getpid())

    def check(self, what: str) -> None:
        """Bind to the running loop, or `RuntimeError` where ``what`` belongs to another one."""
        if self.forked:
            raise RuntimeError(f"this {what} was used before a fork: make one per process")
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None:
            raise RuntimeError(f"this {what} belongs to another event loop: make one per loop")
        # Its first call imports anyio's backend: not on an error path, where files may be short.
        anyio.current_effective_deadline()
        self._loop, self._pid = loop, os.getpid()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function that touches the loop, from a finalizer, which runs in any thread.

        At once in the loop's thread, or where the loop does not run; soon where it runs in another
        thread; never in a forked child.
        """
        if self.forked:
            return
        loop = self._loop
        if loop is not None and asyncio._get_running_loop() is not loop and loop.is_running():  # noqa: SLF001 - documented
            with contextlib.suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(function)
                return
        function()


def background(work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
    """A task that its owner ends. A loop that is closed before that is no reason to complain."""
    task = asyncio.create_task(work, name=f"itwin_async {name}")
    with contextlib.suppress(AttributeError):  # of another loop's task
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
    return task
