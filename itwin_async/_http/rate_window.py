"""Rate window: how many requests a server may have counted within a span of time."""

import math
from collections import deque


class RateWindow:
    """Requests sent within the last ``span`` seconds, as a server may count them.

    The server counts a request at some moment between its sending and its response. So a request
    in flight counts as sent now, and an answered one as sent when its response came: then no
    window of the server holds more than the limit, however slow the network is.
    """

    __slots__ = ("limit", "span", "times")

    def __init__(self, span: float, limit: int) -> None:
        self.span = span
        self.limit = limit
        self.times: deque[float] = deque()

    def remaining(self, now: float, in_flight: int) -> int:
        """How many more requests may be sent now."""
        times = self.times
        while times and times[0] + self.span <= now:
            times.popleft()
        return self.limit - len(times) - in_flight

    def available_at(self, now: float, in_flight: int) -> float:
        """When one more may be sent; infinity if that depends on a response to come."""
        missing = -self.remaining(now, in_flight)
        if missing < 0:
            return now
        return self.times[missing] + self.span if missing < len(self.times) else math.inf
