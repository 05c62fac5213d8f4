"""Events of the platform, which its webhooks deliver."""

from dataclasses import dataclass

from itwin_async.emulator._state.seed import JSON


@dataclass(frozen=True, slots=True)
class PlatformEvent:
    """Something that happened in an iTwin."""

    type: str
    itwin_id: str
    content: JSON
