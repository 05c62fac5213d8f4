"""The public limiter: its bounds, and what it shows of its work."""

import asyncio
import traceback

import pytest

from itwin_async import Limiter
from itwin_async.limits import rate_limiter_of


def test_it_shows_its_bounds():
    limiter = Limiter(3, per_minute=5)
    assert (limiter.concurrency, limiter.per_minute, limiter.per_hour) == (3, 5, None)
    assert repr(limiter) == "Limiter(3, per_minute=5, per_hour=None)"
    assert {name for name in dir(limiter) if not name.startswith("_")} == {
        "concurrency",
        "in_use",
        "per_hour",
        "per_minute",
        "waiting",
    }


async def test_it_shows_what_is_under_way():
    limiter = Limiter(1)
    rate_limiter = rate_limiter_of(limiter)
    assert (limiter.in_use, limiter.waiting) == (0, 0)
    slot = await rate_limiter.acquire()
    waiting = asyncio.create_task(rate_limiter.acquire())
    await asyncio.sleep(0)
    assert (limiter.in_use, limiter.waiting) == (1, 1)
    slot.release()
    (await waiting).release()
    assert (limiter.in_use, limiter.waiting) == (0, 0)


def test_a_refused_bound_can_be_reported_with_its_frames():
    with pytest.raises(ValueError, match="concurrency must be") as caught:
        Limiter(0)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "Limiter(0, " in "".join(report.format())


@pytest.mark.parametrize(
    ("bounds", "error"),
    [
        ({"concurrency": 0}, ValueError), ({"concurrency": -1}, ValueError),
        ({"concurrency": 1.5}, TypeError), ({"concurrency": True}, TypeError),
        ({"concurrency": None}, TypeError), ({"per_minute": 0}, ValueError),
        ({"per_minute": "5"}, TypeError), ({"per_hour": -5}, ValueError),
        ({"per_hour": False}, TypeError), ({"per_hour": float("inf")}, TypeError),
    ],
)  # fmt: skip
def test_a_bad_bound_is_an_error_at_once(bounds, error):
    with pytest.raises(error, match=f"^{next(iter(bounds))} must be"):
        Limiter(**bounds)
