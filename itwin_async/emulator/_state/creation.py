"""How an iModel came into being: its origin, and when that is over."""

from dataclasses import dataclass
from typing import Final

from itwin_async.emulator._state.seed import JSON

SUCCESSFUL: Final = "successful"
SCHEDULED: Final = "scheduled"


@dataclass(slots=True)
class Creation:
    """The creation of an iModel, which is over at ``ready_at``, in seconds since 1970."""

    ready_at: float = 0.0
    cloned_from: JSON | None = None
    forked_from: JSON | None = None

    def state(self, now: float) -> str:
        """The word for how far it is."""
        return SUCCESSFUL if self.ready_at <= now else SCHEDULED
