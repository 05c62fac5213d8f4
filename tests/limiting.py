"""Callers of a limiter in virtual time."""

import asyncio

from virtual_time import now

from itwin_async import Limiter


async def settle(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def use(limiter: Limiter, seconds: float, log: list[float]) -> None:
    slot = await limiter.acquire()
    try:
        log.append(now())
        await asyncio.sleep(seconds)
    finally:
        slot.release()
