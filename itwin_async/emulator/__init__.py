"""The emulator knows the platform from its documentation alone, and nothing of the client."""

from itwin_async.emulator._faults import (
    Cut,
    Delay,
    Edit,
    Fault,
    Faults,
    Garbage,
    Match,
    RequestRecord,
    Reset,
    Slow,
    Status,
    Throttle,
)
from itwin_async.emulator._routes import ROUTES
from itwin_async.emulator._server import Emulator

__all__ = [
    "ROUTES",
    "Cut",
    "Delay",
    "Edit",
    "Emulator",
    "Fault",
    "Faults",
    "Garbage",
    "Match",
    "RequestRecord",
    "Reset",
    "Slow",
    "Status",
    "Throttle",
]
