"""Locks: which briefcases may change which objects of an iModel."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Literal, TypeAlias, cast, get_args

import msgspec

from itwin_async._core.operation import Operation, without_none
from itwin_async._core.records import Record
from itwin_async._core.validation import Id, check_choice, check_count, check_text, quote_segment
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager
from itwin_async.imodels.lists import check_page_size

LockLevel: TypeAlias = Literal["none", "shared", "exclusive"]
_LEVELS: Final[tuple[str, ...]] = get_args(LockLevel)


class LockedObjects(Record, frozen=True, kw_only=True):
    """Objects and the level of their lock.

    ``lock_level`` is ``shared`` (of several briefcases), ``exclusive`` (of one), or ``none``, which
    releases them. ``object_ids`` are hexadecimal, such as ``0x1a``.
    """

    lock_level: str
    object_ids: tuple[str, ...] = ()

    _repr_fields: ClassVar = ("lock_level", "object_ids")


class Lock(Record, frozen=True, kw_only=True):
    """The locks of one briefcase."""

    briefcase_id: int
    locked_objects: tuple[LockedObjects, ...] = ()

    _repr_fields: ClassVar = ("briefcase_id", "locked_objects")


class LockPage(LinkedPage[Lock]):
    """A page of locks."""

    locks: list[Lock]


class ReleasedLockPage(LinkedPage[LockedObjects]):
    """A page of objects whose locks were released."""

    released_locks: list[LockedObjects] = msgspec.field(name="releasedLocks")


class LockBody(msgspec.Struct):
    """The response with the locks of one briefcase."""

    lock: Lock


class ReleasedChunk(msgspec.Struct, rename="camel"):
    """The response to the release of some locks."""

    is_last_chunk: bool


_PATH: Final = "/imodels/{imodel_id}/locks"
LIST_LOCKS: Final = Operation("GET", _PATH, LockPage, version="v2")
UPDATE_LOCKS: Final = Operation("PATCH", _PATH, LockBody, version="v2")
RELEASE_LOCKS: Final = Operation("POST", f"{_PATH}/release-chunk", ReleasedChunk, version="v2")
LIST_RELEASED_LOCKS: Final = Operation(
    "GET", f"{_PATH}/released-locks", ReleasedLockPage, version="v2"
)


class LockOperations(OperationGroup):
    """Operations on locks."""

    def list_locks(
        self,
        imodel_id: Id,
        *,
        briefcase_id: int | None = None,
        lock_level: LockLevel | None = None,
        page_size: int | None = None,
    ) -> Pager[Lock]:
        """Locks of an iModel, one entry for each briefcase that has any.

        ``briefcase_id`` and ``lock_level`` choose among them. ``page_size`` is 100 by default and
        at most 1,000. Iterating raises `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-locks/

        Example::

            async for lock in itwin.imodels.list_locks(imodel_id, lock_level="exclusive"):
                print(lock.briefcase_id, lock.locked_objects)
        """
        check_count("briefcase_id", briefcase_id, optional=True)
        check_choice("lock_level", lock_level, _LEVELS)
        check_page_size(page_size)
        query = {"briefcaseId": briefcase_id, "lockLevel": lock_level, "$top": page_size}
        return self._list(LIST_LOCKS.request(imodel_id=imodel_id, query=query))

    async def update_locks(
        self,
        imodel_id: Id,
        briefcase_id: int,
        locked_objects: Sequence[LockedObjects],
        *,
        changeset_id: str | None = None,
    ) -> Lock:
        """Lock objects for a briefcase, or release some with the level ``none``.

        ``changeset_id`` is the changeset that the briefcase is at; None for the baseline. Raises
        `LockConflictError` with ``conflicting_locks`` where other briefcases hold objects,
        `NewerChangesError` with ``object_ids`` where objects were changed after ``changeset_id``,
        and `NotFoundError` for an unknown iModel, briefcase, or lock to release.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/update-imodel-locks/

        Example::

            wanted = LockedObjects(lock_level="exclusive", object_ids=("0x1", "0x2"))
            try:
                await itwin.imodels.update_locks(imodel_id, 2, [wanted], changeset_id=changeset_id)
            except LockConflictError as error:
                print(error.conflicting_locks)
        """
        listed = _check_objects(locked_objects)
        body = _at_changeset(briefcase_id, changeset_id, lockedObjects=listed)
        return (await self._call(UPDATE_LOCKS.request(imodel_id=imodel_id, body=body))).lock

    async def release_locks(
        self, imodel_id: Id, briefcase_id: int, *, changeset_id: str | None = None
    ) -> None:
        """Release all locks of a briefcase, with as many requests as the platform needs for it.

        ``changeset_id`` is the last changeset that the briefcase has pushed, None where it changed
        nothing. Raises `NotFoundError` for an unknown iModel or briefcase. A request whose outcome
        is unknown is not sent again; calling it again releases what is left.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/release-imodel-locks-chunk/

        Example::

            await itwin.imodels.release_locks(imodel_id, 2, changeset_id=changeset_id)
        """
        body = _at_changeset(briefcase_id, changeset_id)
        request = RELEASE_LOCKS.request(imodel_id=imodel_id, body=body)
        while not (await self._call(request)).is_last_chunk:
            pass

    def list_released_locks(
        self, imodel_id: Id, after_changeset_index: int, *, page_size: int | None = None
    ) -> Pager[LockedObjects]:
        """Objects whose locks were released after a changeset, by the level of the lock.

        ``after_changeset_index`` is exclusive. Iterating raises `NotFoundError` for an unknown
        iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-released-locks/

        Example::

            async for released in itwin.imodels.list_released_locks(imodel_id, 41):
                print(released.lock_level, released.object_ids)
        """
        check_count("after_changeset_index", after_changeset_index, least=0)
        check_page_size(page_size)
        query = {"afterChangesetIndex": after_changeset_index, "$top": page_size}
        return self._list(LIST_RELEASED_LOCKS.request(imodel_id=imodel_id, query=query))


def _at_changeset(briefcase_id: int, changeset_id: str | None, **more: object) -> dict[str, object]:
    """A body that names a briefcase and the changeset that it is at."""
    check_count("briefcase_id", briefcase_id)
    check_text("changeset_id", changeset_id)
    return without_none(briefcaseId=briefcase_id, changesetId=changeset_id, **more)


def _check_objects(values: object) -> list[LockedObjects]:
    """The objects as a list; `TypeError` or `ValueError` for what they cannot be."""
    if isinstance(values, str | bytes | LockedObjects) or not isinstance(values, Iterable):
        kind = type(values).__name__
        raise TypeError(f"locked_objects must be a sequence of LockedObjects, not {kind}")
    listed = list(cast("Iterable[object]", values))
    if not listed:
        raise ValueError("locked_objects must not be empty")
    for value in listed:
        if not isinstance(value, LockedObjects):
            kind = type(value).__name__
            raise TypeError(f"locked_objects must be a sequence of LockedObjects, not of {kind}")
        check_choice("lock_level", value.lock_level, _LEVELS, optional=False)
        if not value.object_ids:
            raise ValueError("object_ids must not be empty")
        for object_id in value.object_ids:
            quote_segment("each of object_ids", object_id)
    return cast("list[LockedObjects]", listed)
