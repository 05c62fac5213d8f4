"""What the lists of a session share: how requests are sent, and the budget for read-ahead."""

from typing import Final

import msgspec

from itwin_async._http.executor import RequestExecutor


class ReadAheadBudget:
    """The bytes that read-ahead may hold at the same time, over all lists of a session."""

    __slots__ = ("limit", "reserved")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self.reserved: int = 0

    def reserve(self, size: int) -> "Reservation | None":
        """Reserve so many bytes, or None where they do not fit."""
        reservation = Reservation(self)
        return reservation if reservation.grow_to(size) else None


class Reservation:
    """Bytes of a budget, until they are released or the reservation is collected."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: ReadAheadBudget) -> None:
        self._budget = budget
        self._size = 0

    def grow_to(self, size: int) -> bool:
        """Reserve so many bytes in all; False where they do not fit."""
        more = max(0, size - self._size)
        if self._budget.reserved + more > self._budget.limit:
            return False
        self._size += more
        self._budget.reserved += more
        return True

    def release(self) -> None:
        """Give all of them back; nothing the second time."""
        size, self._size = self._size, 0
        self._budget.reserved -= size

    def __del__(self) -> None:
        self.release()


class ListContext(msgspec.Struct, frozen=True):
    """What the lists of a session share."""

    executor: RequestExecutor
    budget: ReadAheadBudget
