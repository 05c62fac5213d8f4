"""Briefcases: copies of an iModel that people and applications work on."""

from datetime import datetime
from types import NoneType
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

from itwin_async._core.operation import Operation, without_none
from itwin_async._core.records import Link, Record, assume_utc
from itwin_async._core.validation import Id, as_sent, check_id, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager
from itwin_async.imodels.changesets import Application
from itwin_async.imodels.imodels import LONGEST_TEXT
from itwin_async.imodels.lists import check_page_size, prefer

BriefcaseOrder: TypeAlias = Literal[
    "acquiredDateTime", "acquiredDateTime asc", "acquiredDateTime desc"
]


class BriefcaseLinks(Record, frozen=True, kw_only=True):
    """Links of a briefcase."""

    owner: Link | None = None
    checkpoint: Link | None = None

    _repr_fields: ClassVar = ("owner", "checkpoint")


class Briefcase(Record, frozen=True, kw_only=True):
    """A copy of an iModel that somebody works on. ``file_size`` is in bytes.

    A list always has ``id`` and ``display_name``, the rest by representation. ``briefcase_id`` is
    the ``id`` as a number, which changesets and locks have.
    """

    id: str
    display_name: str | None = None
    briefcase_id: int | None = None
    owner_id: str | None = None
    acquired_date_time: datetime | None = None
    file_size: int | None = None
    device_name: str | None = None
    application: Application | None = None
    links: BriefcaseLinks | None = None

    _repr_fields: ClassVar = ("id", "owner_id", "device_name")

    def __post_init__(self) -> None:
        assume_utc(self, "acquired_date_time")


class BriefcasePage(LinkedPage[Briefcase]):
    """A page of briefcases."""

    briefcases: list[Briefcase]


class BriefcaseBody(msgspec.Struct):
    """The response with one briefcase."""

    briefcase: Briefcase


_PATH: Final = "/imodels/{imodel_id}/briefcases"
_ONE: Final = f"{_PATH}/{{briefcase_id}}"
LIST_BRIEFCASES: Final = Operation("GET", _PATH, BriefcasePage, version="v2")
GET_BRIEFCASE: Final = Operation("GET", _ONE, BriefcaseBody, version="v2")
ACQUIRE_BRIEFCASE: Final = Operation("POST", _PATH, BriefcaseBody, version="v2")
RELEASE_BRIEFCASE: Final = Operation("DELETE", _ONE, NoneType, version="v2")


class BriefcaseOperations(OperationGroup):
    """Operations on briefcases."""

    def list_briefcases(
        self,
        imodel_id: Id,
        *,
        owner_id: Id | None = None,
        order_by: BriefcaseOrder | None = None,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[Briefcase]:
        """Briefcases of an iModel.

        ``owner_id`` is the id of a user, or ``me``. ``order_by`` such as ``acquiredDateTime desc``.
        ``representation`` asks for all fields. ``page_size`` is 100 by default and at most 1,000.
        Iterating raises `NotFoundError` for an unknown iModel, and `ForbiddenError` without the
        permission to read files.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-briefcases/

        Example::

            mine = itwin.imodels.list_briefcases(imodel_id, owner_id="me", representation=True)
            devices = [briefcase.device_name async for briefcase in mine]
        """
        check_id("owner_id", owner_id)
        check_text("order_by", order_by)
        check_page_size(page_size)
        request = LIST_BRIEFCASES.request(
            imodel_id=imodel_id,
            query={"ownerId": owner_id and str(owner_id), "$orderBy": order_by, "$top": page_size},
            headers=prefer(representation),
        )
        return self._list(request)

    async def get_briefcase(self, imodel_id: Id, briefcase_id: str | int) -> Briefcase:
        """One briefcase. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-briefcase-details/

        Example::

            briefcase = await itwin.imodels.get_briefcase(imodel_id, 2)
        """
        request = GET_BRIEFCASE.request(imodel_id=imodel_id, briefcase_id=_segment(briefcase_id))
        return (await self._call(request)).briefcase

    async def acquire_briefcase(
        self, imodel_id: Id, *, device_name: str | None = None
    ) -> Briefcase:
        """Acquire a briefcase, with which changesets can be pushed; it is the caller's.

        ``device_name`` has up to 255 characters. Raises `NotFoundError` for an unknown iModel, and
        `ConflictError` where the caller has too many or none can be acquired. Not sent again where
        its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/acquire-imodel-briefcase/

        Example::

            briefcase = await itwin.imodels.acquire_briefcase(imodel_id, device_name="build server")
            print(briefcase.briefcase_id)
        """
        check_text("device_name", device_name, longest=LONGEST_TEXT)
        body = without_none(deviceName=device_name)
        request = ACQUIRE_BRIEFCASE.request(imodel_id=imodel_id, body=body)
        return (await self._call(request)).briefcase

    async def release_briefcase(self, imodel_id: Id, briefcase_id: str | int) -> None:
        """Release a briefcase. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/release-imodel-briefcase/

        Example::

            await itwin.imodels.release_briefcase(imodel_id, briefcase.id)
        """
        segment = _segment(briefcase_id)
        request = RELEASE_BRIEFCASE.request(imodel_id=imodel_id, briefcase_id=segment)
        await self._call(request)


def _segment(briefcase_id: object) -> object:
    """A briefcase's id or number as a segment of a path."""
    if isinstance(briefcase_id, int) and not isinstance(briefcase_id, bool):
        return as_sent(briefcase_id)
    return briefcase_id
