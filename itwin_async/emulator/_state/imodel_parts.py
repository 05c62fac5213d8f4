"""What belongs to an iModel besides its changesets: named versions, groups, briefcases."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from itwin_async.emulator._state import seed
from itwin_async.emulator._state.changesets import DEFAULT_APPLICATION
from itwin_async.emulator._state.seed import JSON

_VERSION_EVERY: Final = 10  # changesets
_RUN: Final = 5  # changesets of a run; every other run is a group
FIRST_BRIEFCASE: Final = 2  # as the platform counts them
_SEEDED_BRIEFCASES: Final = 5


@dataclass(slots=True, kw_only=True)
class NamedVersion:
    """A changeset with a name; index 0 and no id are the baseline."""

    id: str
    name: str
    description: str | None = None
    changeset_id: str | None = None
    changeset_index: int = 0
    created: str
    creator_id: str
    state: str = "visible"
    application: JSON | None = field(default_factory=DEFAULT_APPLICATION.copy)


@dataclass(slots=True, kw_only=True)
class ChangesetGroup:
    """Changesets that belong together, such as those of one synchronization run."""

    id: str
    description: str
    created: str
    creator_id: str
    state: str = "completed"


@dataclass(slots=True, kw_only=True)
class Briefcase:
    """A copy of an iModel that somebody works on."""

    number: int
    owner_id: str
    acquired: str
    file_size: int
    device_name: str | None = None
    application: JSON | None = field(default_factory=DEFAULT_APPLICATION.copy)


def is_named(index: int) -> bool:
    """Whether a seeded changeset has a named version."""
    return index % _VERSION_EVERY == 1


def group_id(seed_number: int, imodel: int, index: int) -> str | None:
    """The group of a seeded changeset."""
    run = (index - 1) // _RUN
    return None if run % 2 else seed.guid(seed_number, "group", imodel, run)


def seeded_versions(
    seed_number: int, imodel: int, changesets: Iterator[tuple[int, str, str]]
) -> Iterator[tuple[str, NamedVersion]]:
    """The named versions of the seeded changesets (index, id, time of the push)."""
    for index, changeset_id, pushed in changesets:
        if is_named(index):
            number = 1 + index // _VERSION_EVERY
            id = seed.guid(seed_number, "version", imodel, number)
            yield (
                id,
                NamedVersion(
                    id=id,
                    name=f"Milestone {number}",
                    description=None if number % 4 == 0 else f"As delivered in step {number}",
                    changeset_id=changeset_id,
                    changeset_index=index,
                    created=pushed,
                    creator_id=seed.guid("user", number % 3),
                    state="hidden" if number % 3 == 0 else "visible",
                ),
            )


def seeded_groups(
    seed_number: int, imodel: int, changesets: Iterator[tuple[int, str, str]]
) -> Iterator[tuple[str, ChangesetGroup]]:
    """The groups of the seeded changesets."""
    for index, _, pushed in changesets:
        id = group_id(seed_number, imodel, index)
        if id is not None and index % _RUN == 1:
            run = 1 + index // _RUN
            creator = seed.guid("user", index % 3)
            yield (
                id,
                ChangesetGroup(
                    id=id,
                    description=f"Synchronization run {run}",
                    created=pushed,
                    creator_id=creator,
                ),
            )


def seeded_briefcases(imodel: int, created: str) -> Iterator[tuple[str, Briefcase]]:
    """The briefcases that pushed the seeded changesets."""
    for number in range(FIRST_BRIEFCASE, FIRST_BRIEFCASE + _SEEDED_BRIEFCASES):
        briefcase = Briefcase(
            number=number,
            owner_id=seed.guid("user", number % 3),
            acquired=created,
            file_size=1_000_000 + seed.number(1_000_000, imodel, number),
            device_name=None if number % 2 else f"WORKSTATION-{number}",
        )
        yield str(number), briefcase
