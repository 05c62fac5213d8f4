"""The platform that ``--emulator`` starts."""

from itwin_async.emulator import Delay, Emulator, Throttle


def emulator() -> Emulator:
    """An emulator whose extended data is slow enough to watch, and throttled once on the way."""
    platform = Emulator(changesets=2_000, latency=0.02, max_top=100, record=False)
    platform.faults.add("list_extended_data", Throttle(2), after=180)
    platform.faults.add("list_extended_data", Delay(0.3), times=None)
    return platform
