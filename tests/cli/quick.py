"""The command with short waits, for tests of what it does and not of how long it waits."""

from itwin_async import Retry
from itwin_async.cli import _emulated, main
from itwin_async.emulator import Delay, Emulator
from itwin_async.export import _job


def quick_emulator() -> Emulator:
    """Like ``--emulator``'s, in a tenth of its time."""
    emulator = Emulator(changesets=2_000, max_top=100, record=False)
    emulator.faults.add("list_extended_data", Delay(0.03), times=None)
    return emulator


_emulated.emulator = quick_emulator
_job.STORE_SECONDS = 0.05  # between two parts of an export
Retry.backoff = lambda _self, _fault: 0.001
main()
