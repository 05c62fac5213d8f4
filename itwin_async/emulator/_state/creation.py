"""How an iModel came into being: its origin, its baseline file, and when that is over."""

from dataclasses import dataclass
from typing import Final

from itwin_async.emulator._state.seed import JSON

SUCCESSFUL: Final = "successful"
BASELINE_FILE: Final = "baseline.bim"  # its name in the storage


@dataclass(slots=True)
class Creation:
    """The creation of an iModel, which is over at ``ready_at``, in seconds since 1970.

    ``waits_for_file`` until its baseline file, of ``file_size`` bytes, is confirmed.
    """

    ready_at: float = 0.0
    cloned_from: JSON | None = None
    forked_from: JSON | None = None
    file_size: int = 1 << 16
    waits_for_file: bool = False

    def state(self, now: float) -> str:
        """The word for how far it is."""
        if self.waits_for_file:
            return "waitingForFile"
        return SUCCESSFUL if self.ready_at <= now else "scheduled"

    def file_state(self, now: float) -> str:
        """The word for how far the baseline file is."""
        words = {"scheduled": "initializationScheduled", SUCCESSFUL: "initialized"}
        return words.get(self.state(now), "waitingForFile")
