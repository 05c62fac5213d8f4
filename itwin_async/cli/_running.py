"""Run a command's coroutine, which SIGINT and SIGTERM end at once."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from types import FrameType
from typing import Any, Final, NoReturn, TypeVar

from itwin_async.cli._stdio import Stderr, interruptible_writes

T = TypeVar("T")
_MESSAGES: Final = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated."}


def run(work: Callable[[], Coroutine[Any, Any, T]], *, advice: str = "") -> T:
    """Run a coroutine and return its result. SIGINT and SIGTERM cancel it and exit, 128 + signal.

    ``advice`` is printed after such a signal. Outside the main thread no signal is handled.
    """
    if _is_in_a_loop():
        raise RuntimeError(
            "the command line cannot run inside an event loop: use the library, or another thread"
        )
    # With a loop factory, the runner leaves the thread's current loop as it was.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(_run_until_signal(work, advice))


async def _run_until_signal(work: Callable[[], Coroutine[Any, Any, T]], advice: str) -> T:
    if not _in_main_thread():
        return await work()
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    received: int | None = None

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal received
        is_second, received = received is not None, number
        if is_second:
            raise KeyboardInterrupt
        interrupt_writes()
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)

    with interruptible_writes() as interrupt_writes, _handlers(stop):
        try:
            return await work()
        except (asyncio.CancelledError, KeyboardInterrupt):
            if received is None:
                raise
    return exit_by_signal(received, advice)


@contextlib.contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Generator[None]:
    """Handle SIGINT and SIGTERM, but for one that the process was started to ignore."""
    # Shells start background jobs with SIGINT ignored, which has to stay. None is a handler that
    # was not set in Python and could not be restored.
    unchanged = (signal.SIG_IGN, None)
    handled = [number for number in _MESSAGES if signal.getsignal(number) not in unchanged]
    previous = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def exit_by_signal(number: int, advice: str) -> NoReturn:
    """End the process with 128 + the signal's number, when everything of ours is closed.

    A usual exit would wait for what cannot be interrupted: a name that is being looked up in a
    thread, output that nobody reads.
    """
    stderr = Stderr()
    messages = [_MESSAGES[signal.Signals(number)]] if stderr.isatty() else []
    messages += [advice] if advice else []
    if messages:
        stderr.write(f"{' '.join(messages)}\n")
    os._exit(128 + number)
