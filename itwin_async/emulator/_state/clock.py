"""The clock of the emulated platform: it dates what happens there."""

import time
from datetime import UTC, datetime, timedelta

from itwin_async.emulator import _arguments


class Clock:
    """The wall clock, or one that was started at another time; it can be moved forward."""

    def __init__(self, now: datetime | None = None) -> None:
        value: object = now
        if now is not None:
            if not isinstance(value, datetime):
                raise TypeError(f"now must be a datetime or None, not {_arguments.kind_of(value)}")
            if now.utcoffset() is None:
                raise ValueError("now must have a time zone, such as datetime.UTC")
        self._offset = 0.0 if now is None else now.timestamp() - time.time()

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._offset

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def advance(self, seconds: float) -> None:
        """Move it forward."""
        self._offset += seconds


def to_timestamp(moment: datetime, digits: int = 7) -> str:
    """A time as the platform writes it, with so many digits of a second."""
    fraction = f"{moment.microsecond:06}0"[:digits]
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z"


def first_date(end: datetime, span: timedelta) -> datetime:
    """When seeded data begins that spans so long and ends a day before this time."""
    return end.replace(microsecond=0) - timedelta(days=1, seconds=1) - span
