"""Origins that are down, and the calls that wait for them."""

import asyncio
from typing import Any

from support import (
    Connection,
    RawServer,
    answer,
    until,
)

from itwin_async import ITwinSession, Retry

OK = answer(b"{}")


FOREVER = 3_600.0  # seconds between two probes, where a test makes the time pass
# Probes at once, and however many: on a busy machine dozens fail before a test sees the first one.
PATIENT = Retry(base=0.001, cap=0.002, max_outage=FOREVER)


class Origin(RawServer):
    """Answers while it is up; while it is ``down``, resets connections or sends that answer."""

    def __init__(self) -> None:
        super().__init__(self._each)
        self.down: bytes | str | None = None
        self.while_down: list[str] = []  # methods and targets
        self.bad: dict[str, bytes] = {}  # answers of single targets
        self.hold = asyncio.Event()
        self.hold.set()

    async def _each(self, connection: Connection) -> None:
        while True:
            got = await connection.request()
            if self.down is None:
                await connection.send(self.bad.get(got.target, OK))
                continue
            self.while_down.append(f"{got.method} {got.target}")
            await self.hold.wait()
            if isinstance(self.down, str):
                return connection.reset()
            await connection.send(self.down)


def refused(status: int, *headers: str) -> bytes:
    return answer(b"", *headers, status=f"{status} Said")


async def call(itwin: ITwinSession, number: int, method: str = "GET") -> Any:
    return await itwin.request(method, f"/things/{number}")


async def break_down(
    itwin: ITwinSession, origin: Origin, down: bytes | str = "reset", *, calls: int = 2
) -> list:
    """Calls that meet an outage and wait in it; it is known when this returns."""
    origin.down = down
    tasks = [asyncio.ensure_future(call(itwin, number)) for number in range(calls)]
    await until(lambda: itwin.stats.outages)
    await until(lambda: itwin._executor.limiter.in_use == 0)
    return tasks


def breaker(itwin: ITwinSession) -> Any:
    return itwin._executor.breaker


def waiting(itwin: ITwinSession) -> int:
    return len(breaker(itwin)._waiting)
