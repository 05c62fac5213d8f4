"""Callers of a limiter in virtual time."""

import asyncio

from virtual_time import now

from itwin_async._http.rate_limiter import RateLimiter


def limited(
    concurrency: int = 16, *, per_minute: int | None = None, per_hour: int | None = None
) -> RateLimiter:
    return RateLimiter(concurrency, per_minute, per_hour)


async def settle(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def use(limiter: RateLimiter, seconds: float, log: list[float]) -> None:
    slot = await limiter.acquire()
    try:
        log.append(now())
        await asyncio.sleep(seconds)
    finally:
        slot.release()
