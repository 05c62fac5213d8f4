"""Changesets of an iModel."""

from datetime import datetime
from typing import ClassVar, Final, Literal

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, Record, assume_utc
from itwin_async._core.validation import Id, as_sent, check_choice, check_count, not_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager
from itwin_async.imodels.lists import check_page_size, prefer


class Application(Record, frozen=True, kw_only=True):
    """The application that pushed a changeset."""

    id: str | None = None
    name: str | None = None

    _repr_fields: ClassVar = ("name", "id")


class SynchronizationInfo(Record, frozen=True, kw_only=True):
    """The synchronization run that a changeset came from, and the files it changed."""

    task_id: str | None = None
    changed_files: tuple[str, ...] | None = None

    _repr_fields: ClassVar = ("task_id", "changed_files")


class ChangesetLinks(Record, frozen=True, kw_only=True):
    """Links of a changeset. ``download`` is signed, and None without permission to download.

    ``upload``, which is signed too, and ``complete`` are those of one that waits for its file.
    """

    self_: Link | None = None
    creator: Link | None = None
    named_version: Link | None = None
    named_versions: Link | None = None
    current_or_preceding_checkpoint: Link | None = None
    download: Link | None = None
    upload: Link | None = None
    complete: Link | None = None

    _repr_fields: ClassVar = ("self_", "creator", "download")
    _signed: ClassVar = ("download", "upload")


class Changeset(Record, frozen=True, kw_only=True):
    """A changeset. ``index`` grows along an iModel but may have gaps; ``file_size`` is in bytes.

    ``containing_changes`` is a sum of flags: 1 schema, 2 definition, 4 spatial data, 8 sheets and
    drawings, 16 views and models, 32 global properties, 64 schema synchronization; 0 is regular.
    ``application``, ``synchronization_info`` and some links come by representation only.
    """

    id: str
    index: int
    display_name: str | None = None
    description: str | None = None
    parent_id: str | None = None
    creator_id: str | None = None
    push_date_time: datetime | None = None
    state: str | None = None
    containing_changes: int | None = None
    file_size: int | None = None
    briefcase_id: int | None = None
    group_id: str | None = None
    application: Application | None = None
    synchronization_info: SynchronizationInfo | None = None
    links: ChangesetLinks | None = None

    _repr_fields: ClassVar = ("index", "id", "description")

    def __post_init__(self) -> None:
        assume_utc(self, "push_date_time")


class ChangesetPage(LinkedPage[Changeset]):
    """A page of changesets."""

    changesets: list[Changeset]


class ChangesetBody(msgspec.Struct):
    """The response with one changeset."""

    changeset: Changeset


LIST_CHANGESETS: Final = Operation(
    "GET", "/imodels/{imodel_id}/changesets", ChangesetPage, version="v2"
)
GET_CHANGESET: Final = Operation(
    "GET", "/imodels/{imodel_id}/changesets/{changeset}", ChangesetBody, version="v2"
)


class ChangesetOperations(OperationGroup):
    """Operations on changesets."""

    def list_changesets(
        self,
        imodel_id: Id,
        *,
        after_index: int | None = None,
        last_index: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[Changeset]:
        """Changesets of an iModel, those after ``after_index`` up to and with ``last_index``.

        ``order`` is by index. ``representation`` asks for all fields. ``page_size`` is 100 by
        default and at most 1,000. Iterating raises `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changesets/

        Example::

            recent = itwin.imodels.list_changesets(imodel_id, after_index=3)
            async for changeset in recent:
                print(changeset.index, changeset.description)
        """
        check_count("after_index", after_index, least=0, optional=True)
        check_count("last_index", last_index, least=0, optional=True)
        check_page_size(page_size)
        check_choice("order", order, ("asc", "desc"))
        request = LIST_CHANGESETS.request(
            imodel_id=imodel_id,
            query={
                "afterIndex": after_index,
                "lastIndex": last_index,
                "$orderBy": f"index {order}" if order else None,
                "$top": page_size,
            },
            headers=prefer(representation),
        )
        newest_last = order != "desc"
        return self._list(request, age_key=changeset_key if newest_last else None)

    async def get_changeset(self, imodel_id: Id, changeset: str | int) -> Changeset:
        """One changeset, by id or index. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-details/
        """
        request = GET_CHANGESET.request(imodel_id=imodel_id, changeset=id_or_index(changeset))
        body = await self._call(request)
        return body.changeset


def changeset_key(changeset: Changeset) -> str:
    """What identifies a changeset in its list."""
    return changeset.id


def id_or_index(changeset: object) -> str:
    """A changeset's id or index as a path segment; `TypeError` or `ValueError` for the rest."""
    if isinstance(changeset, int) and not isinstance(changeset, bool) and changeset < 0:
        raise ValueError(f"changeset must be an id or an index of at least 0, not {changeset}")
    if not isinstance(changeset, str | int) or isinstance(changeset, bool):
        raise TypeError(not_text("changeset", changeset, "a str or an int"))
    return as_sent(changeset)
