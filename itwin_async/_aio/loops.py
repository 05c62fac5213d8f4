"""Event loops: the one that an object is bound to, and calls to it from other threads."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class LoopBinding:
    """The event loop and the process in which an object was first used."""

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
        """Whether the loop must not be touched any more: it is closed, or the parent process's."""
        return self._loop is not None and (self._loop.is_closed() or self._pid != os.getpid())

    def check(self, what: str) -> None:
        """Bind to the running loop; `RuntimeError` if it is bound to another loop or process."""
        loop = asyncio.get_running_loop()
        if self._loop is loop and self._pid == os.getpid():
            return
        if self.forked:
            raise RuntimeError(f"this {what} was used before a fork: make one per process")
        if self._loop is not None:
            raise RuntimeError(f"this {what} belongs to another event loop: make one per loop")
        # Its first call imports anyio's backend, which fails when the process is out of files.
        anyio.current_effective_deadline()
        self._loop, self._pid = loop, os.getpid()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function that touches the loop, from any thread, such as in a finalizer.

        At once in the loop's thread or if the loop does not run; soon if it runs in another thread;
        never in a forked child.
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
    """A task that its owner ends; asyncio does not warn if the loop is closed before that."""
    task = asyncio.create_task(work, name=f"itwin_async {name}")
    with contextlib.suppress(AttributeError):  # of another loop's task
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
    return task
