"""Changeset groups: changesets that belong together, such as those of one synchronization run."""

from datetime import datetime
from typing import ClassVar, Final, Literal

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, Record, assume_utc
from itwin_async._core.validation import Id, check_choice, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager
from itwin_async.imodels.imodels import LONGEST_TEXT
from itwin_async.imodels.lists import check_page_size


class ChangesetGroupLinks(Record, frozen=True, kw_only=True):
    """Links of a changeset group."""

    creator: Link | None = None

    _repr_fields: ClassVar = ("creator",)


class ChangesetGroup(Record, frozen=True, kw_only=True):
    """Changesets that belong together; their ``group_id`` is the ``id``.

    ``state`` is ``inProgress``, ``completed``, ``timedOut`` or ``forciblyClosed``.
    """

    id: str
    description: str | None = None
    state: str | None = None
    creator_id: str | None = None
    created_date_time: datetime | None = None
    links: ChangesetGroupLinks | None = None

    _repr_fields: ClassVar = ("description", "state", "id")

    def __post_init__(self) -> None:
        assume_utc(self, "created_date_time")


class ChangesetGroupPage(LinkedPage[ChangesetGroup]):
    """A page of changeset groups."""

    changeset_groups: list[ChangesetGroup] = msgspec.field(name="changesetGroups")


class ChangesetGroupBody(msgspec.Struct, rename="camel"):
    """The response with one changeset group."""

    changeset_group: ChangesetGroup


_PATH: Final = "/imodels/{imodel_id}/changesetgroups"
_ONE: Final = f"{_PATH}/{{group_id}}"
LIST_CHANGESET_GROUPS: Final = Operation("GET", _PATH, ChangesetGroupPage, version="v2")
GET_CHANGESET_GROUP: Final = Operation("GET", _ONE, ChangesetGroupBody, version="v2")
CREATE_CHANGESET_GROUP: Final = Operation("POST", _PATH, ChangesetGroupBody, version="v2")
UPDATE_CHANGESET_GROUP: Final = Operation("PATCH", _ONE, ChangesetGroupBody, version="v2")


class ChangesetGroupOperations(OperationGroup):
    """Operations on changeset groups."""

    def list_changeset_groups(
        self, imodel_id: Id, *, page_size: int | None = None
    ) -> Pager[ChangesetGroup]:
        """Changeset groups of an iModel.

        ``page_size`` is 100 by default and at most 1,000. Iterating raises `NotFoundError` for an
        unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-groups/

        Example::

            groups = itwin.imodels.list_changeset_groups(imodel_id)
            runs = {group.id: group.description async for group in groups}
        """
        check_page_size(page_size)
        query = {"$top": page_size}
        return self._list(LIST_CHANGESET_GROUPS.request(imodel_id=imodel_id, query=query))

    async def get_changeset_group(self, imodel_id: Id, group_id: Id) -> ChangesetGroup:
        """One changeset group. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-group-details/

        Example::

            group = await itwin.imodels.get_changeset_group(imodel_id, group_id)
        """
        request = GET_CHANGESET_GROUP.request(imodel_id=imodel_id, group_id=group_id)
        return (await self._call(request)).changeset_group

    async def create_changeset_group(self, imodel_id: Id, description: str) -> ChangesetGroup:
        """Begin a changeset group, whose id then goes with its changesets.

        ``description`` has up to 255 characters. Raises `NotFoundError` for an unknown iModel. Not
        sent again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel-changeset-group/

        Example::

            group = await itwin.imodels.create_changeset_group(imodel_id, "Nightly synchronization")
        """
        check_text("description", description, optional=False, longest=LONGEST_TEXT)
        body = {"description": description}
        request = CREATE_CHANGESET_GROUP.request(imodel_id=imodel_id, body=body)
        return (await self._call(request)).changeset_group

    async def update_changeset_group(
        self, imodel_id: Id, group_id: Id, *, state: Literal["completed"] = "completed"
    ) -> ChangesetGroup:
        """Close a changeset group. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/update-imodel-changeset-group/

        Example::

            group = await itwin.imodels.update_changeset_group(imodel_id, group_id)
            print(group.state)
        """
        check_choice("state", state, ("completed",), optional=False)
        body = {"state": state}
        request = UPDATE_CHANGESET_GROUP.request(imodel_id=imodel_id, group_id=group_id, body=body)
        return (await self._call(request)).changeset_group
