"""Dates of HTTP headers."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_http_date(value: str | None) -> datetime | None:
    """The time of a header such as ``Date``, with its zone; None where there is none to read."""
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value.strip())
        # "-0000" is UTC too
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
