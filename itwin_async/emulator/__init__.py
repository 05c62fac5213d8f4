"""An emulator of the iTwin Platform, written from its documentation, to test clients with."""

from itwin_async.emulator._emulator import Emulator
from itwin_async.emulator._faults.plan import Faults, Match
from itwin_async.emulator._faults.record import RequestRecord
from itwin_async.emulator._faults.types import (
    Cut,
    Delay,
    Edit,
    Fault,
    Garbage,
    Reset,
    Slow,
    Status,
    Throttle,
)
from itwin_async.emulator._routes import ROUTES

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
