"""What EDFS keeps for each iTwin: external systems, timers, and roles of packages."""

from collections import defaultdict
from dataclasses import dataclass, field

from itwin_async.emulator._state.collection import Collection
from itwin_async.emulator._state.seed import JSON


def _collections() -> defaultdict[str, Collection[JSON]]:
    return defaultdict(Collection[JSON])


@dataclass(slots=True)
class Edfs:
    """Systems and timers by the id of their iTwin, and by their own ids.

    ``assignments`` are the ids of package roles by that of a role, for each iTwin and package.
    """

    systems: defaultdict[str, Collection[JSON]] = field(default_factory=_collections)
    timers: defaultdict[str, Collection[JSON]] = field(default_factory=_collections)
    assignments: defaultdict[tuple[str, str], dict[str, list[str]]] = field(
        default_factory=lambda: defaultdict[tuple[str, str], dict[str, list[str]]](dict)
    )
