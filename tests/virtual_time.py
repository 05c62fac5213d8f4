"""An event loop whose clock jumps to the next timer: a day of waiting takes no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Moves the clock where a selector would wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            arrived = super().select(0)  # on a socket of this process, which takes no time
            if arrived:
                return arrived
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing is going to happen")
        self.now += max(0.0, timeout)
        if self.now > 10 * 86_400:
            raise RuntimeError("ten days have passed, and it is not over")
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 1,000 s, for a clock that starts at nought hides mistakes."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return 1_000.0 + self._jumping.now


def run(main: Coroutine[Any, Any, T], *, debug: bool = True) -> T:
    """Run to the end in virtual time; whatever waits for ever is a `RuntimeError`."""
    with asyncio.Runner(debug=debug, loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    """The running loop's clock."""
    return asyncio.get_running_loop().time()
