"""Running a command's coroutine: a signal ends it at once, whatever it waits for."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
_SAID = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated."}


class _Signals:
    """What the handler of a signal has to know of the code it interrupts."""

    received: int | None = None
    in_write: bool = False


_signals = _Signals()


@contextmanager
def may_block() -> Generator[None]:
    """Around a write to a pipe, which waits for its reader and not for the event loop."""
    _signals.in_write = True
    try:
        yield
    finally:
        _signals.in_write = False


def run(work: Callable[[], Coroutine[Any, Any, T]], *, advice: str = "") -> T:
    """The result of a coroutine. SIGINT and SIGTERM cancel it and end the process, 128 + signal.

    ``advice`` is then said to whoever stopped it.
    """
    return asyncio.run(_stoppable(work, advice))


async def _stoppable(work: Callable[[], Coroutine[Any, Any, T]], advice: str) -> T:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()

    def stop(number: int, _: FrameType | None) -> None:
        again, _signals.received = _signals.received is not None, number
        if again or _signals.in_write:
            raise KeyboardInterrupt
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)

    # A job in the background is started with SIGINT ignored, and is to stay so.
    heard = [number for number in _SAID if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        return await work()
    except (asyncio.CancelledError, KeyboardInterrupt):
        if _signals.received is not None:
            _leave(_signals.received, advice)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, advice: str) -> None:
    """End the process. All that is ours is closed by now.

    Leaving in the usual way would wait for what cannot be interrupted: a name that is being looked
    up in a thread, output that nobody reads.
    """
    words = [_SAID[signal.Signals(number)]] if sys.stderr.isatty() else []
    words += [advice] if advice else []
    if words:
        sys.stderr.write(f"{' '.join(words)}\n")
    sys.stderr.flush()
    os._exit(128 + number)
