"""Running a command's coroutine: a signal ends it at once, whatever it waits for."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from itwin_async.cli._stdio import Stderr, is_writing

T = TypeVar("T")
_SAID = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated."}


def run(work: Callable[[], Coroutine[Any, Any, T]], *, advice: str = "") -> T:
    """The result of a coroutine. SIGINT and SIGTERM cancel it and end the process, 128 + signal.

    ``advice`` is then said to whoever stopped it. In another thread than the main one, signals are
    left alone.
    """
    if _is_in_a_loop():
        raise RuntimeError(
            "the command line cannot run inside an event loop: use the library, or another thread"
        )
    # A loop of its own making, so that the thread's current loop stays what it was.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(_stoppable(work, advice))


async def _stoppable(work: Callable[[], Coroutine[Any, Any, T]], advice: str) -> T:
    if not _in_main_thread():
        return await work()
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    received: int | None = None

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal received
        again, received = received is not None, number
        if again or is_writing():
            raise KeyboardInterrupt
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)

    # A job in the background is started with SIGINT ignored, and is to stay so. None is a handler
    # that was not set in Python, and could not be put back.
    ignored = (signal.SIG_IGN, None)
    heard = [number for number in _SAID if signal.getsignal(number) not in ignored]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        return await work()
    except (asyncio.CancelledError, KeyboardInterrupt):
        if received is not None:
            _leave(received, advice)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _leave(number: int, advice: str) -> None:
    """End the process. All that is ours is closed by now.

    Leaving in the usual way would wait for what cannot be interrupted: a name that is being looked
    up in a thread, output that nobody reads.
    """
    stderr = Stderr()
    words = [_SAID[signal.Signals(number)]] if stderr.isatty() else []
    words += [advice] if advice else []
    if words:
        stderr.write(f"{' '.join(words)}\n")
    os._exit(128 + number)
