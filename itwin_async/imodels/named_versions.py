"""Named versions of an iModel: changesets with a name, such as a milestone."""

from datetime import datetime
from typing import ClassVar, Final, Literal, TypeAlias, get_args

import msgspec

from itwin_async._core.operation import Operation, without_none
from itwin_async._core.records import Link, Record, assume_utc
from itwin_async._core.validation import Id, check_choice, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager
from itwin_async.imodels.changesets import Application
from itwin_async.imodels.imodels import LONGEST_TEXT
from itwin_async.imodels.lists import check_page_size, prefer

NamedVersionState: TypeAlias = Literal["visible", "hidden"]
NamedVersionOrder: TypeAlias = Literal[
    "changesetIndex", "changesetIndex asc", "changesetIndex desc", "createdDateTime",
    "createdDateTime asc", "createdDateTime desc",
]  # fmt: skip
_STATES: Final[tuple[str, ...]] = get_args(NamedVersionState)


class NamedVersionLinks(Record, frozen=True, kw_only=True):
    """Links of a named version. ``changeset`` is None at the baseline."""

    creator: Link | None = None
    changeset: Link | None = None

    _repr_fields: ClassVar = ("creator", "changeset")


class NamedVersion(Record, frozen=True, kw_only=True):
    """A changeset with a name; index 0 and no id mean the baseline.

    A list always has ``id``, ``display_name`` and the changeset, the rest by representation.
    ``state`` is ``visible`` or ``hidden``; lists have both.
    """

    id: str
    changeset_index: int
    changeset_id: str | None = None
    display_name: str | None = None
    name: str | None = None
    description: str | None = None
    created_date_time: datetime | None = None
    state: str | None = None
    application: Application | None = None
    links: NamedVersionLinks | None = None

    _repr_fields: ClassVar = ("display_name", "changeset_index", "id")

    def __post_init__(self) -> None:
        assume_utc(self, "created_date_time")


class NamedVersionPage(LinkedPage[NamedVersion]):
    """A page of named versions."""

    named_versions: list[NamedVersion] = msgspec.field(name="namedVersions")


class NamedVersionBody(msgspec.Struct, rename="camel"):
    """The response with one named version."""

    named_version: NamedVersion


_PATH: Final = "/imodels/{imodel_id}/namedversions"
_ONE: Final = f"{_PATH}/{{named_version_id}}"
LIST_NAMED_VERSIONS: Final = Operation("GET", _PATH, NamedVersionPage, version="v2")
GET_NAMED_VERSION: Final = Operation("GET", _ONE, NamedVersionBody, version="v2")
CREATE_NAMED_VERSION: Final = Operation("POST", _PATH, NamedVersionBody, version="v2")
UPDATE_NAMED_VERSION: Final = Operation("PATCH", _ONE, NamedVersionBody, version="v2")


class NamedVersionOperations(OperationGroup):
    """Operations on named versions."""

    def list_named_versions(
        self,
        imodel_id: Id,
        *,
        search: str | None = None,
        name: str | None = None,
        state: NamedVersionState | None = None,
        order_by: NamedVersionOrder | None = None,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[NamedVersion]:
        """Named versions of an iModel, hidden ones too.

        ``search`` looks in names and descriptions, ``name`` is the whole name, ``order_by`` such as
        ``changesetIndex desc`` or ``createdDateTime``. ``representation`` asks for all fields.
        ``page_size`` is 100 by default and at most 1,000. Iterating raises `NotFoundError` for an
        unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-named-versions/

        Example::

            versions = itwin.imodels.list_named_versions(imodel_id, order_by="changesetIndex desc")
            latest = await versions.first()
        """
        for argument, value in {"search": search, "name": name, "order_by": order_by}.items():
            check_text(argument, value)
        check_choice("state", state, _STATES)
        check_page_size(page_size)
        request = LIST_NAMED_VERSIONS.request(
            imodel_id=imodel_id,
            query={
                "$search": search,
                "name": name,
                "state": state,
                "$orderBy": order_by,
                "$top": page_size,
            },
            headers=prefer(representation),
        )
        return self._list(request)

    async def get_named_version(self, imodel_id: Id, named_version_id: Id) -> NamedVersion:
        """One named version. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-named-version-details/

        Example::

            version = await itwin.imodels.get_named_version(imodel_id, named_version_id)
        """
        request = GET_NAMED_VERSION.request(imodel_id=imodel_id, named_version_id=named_version_id)
        return (await self._call(request)).named_version

    async def create_named_version(
        self,
        imodel_id: Id,
        name: str,
        *,
        changeset_id: str | None = None,
        description: str | None = None,
    ) -> NamedVersion:
        """Give a changeset a name, or the baseline where ``changeset_id`` is None.

        ``name`` and ``description`` have up to 255 characters; the name is unique in the iModel,
        and a changeset has one named version at most. The platform then generates a checkpoint.
        Raises `NotFoundError` for an unknown iModel or changeset, and `ConflictError` where the
        name or the changeset is taken. Not sent again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel-named-version/

        Example::

            changeset = await itwin.imodels.get_changeset(imodel_id, 7)
            version = await itwin.imodels.create_named_version(
                imodel_id, "Tender", changeset_id=changeset.id
            )
        """
        check_text("name", name, optional=False, longest=LONGEST_TEXT)
        check_text("description", description, longest=LONGEST_TEXT)
        check_text("changeset_id", changeset_id, optional=changeset_id is None)
        body = without_none(name=name, description=description, changesetId=changeset_id)
        request = CREATE_NAMED_VERSION.request(imodel_id=imodel_id, body=body)
        return (await self._call(request)).named_version

    async def update_named_version(
        self,
        imodel_id: Id,
        named_version_id: Id,
        *,
        name: str | None = None,
        description: str | None = None,
        state: NamedVersionState | None = None,
    ) -> NamedVersion:
        """Change the name, the description or the state of a named version; what is None stays.

        Raises `NotFoundError` for an unknown one, and `ConflictError` where the name is taken.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/update-imodel-named-version/

        Example::

            await itwin.imodels.update_named_version(imodel_id, named_version_id, state="hidden")
        """
        if name is not None:
            check_text("name", name, optional=False, longest=LONGEST_TEXT)
        check_text("description", description, longest=LONGEST_TEXT)
        check_choice("state", state, _STATES)
        body = without_none(name=name, description=description, state=state)
        if not body:
            raise ValueError("give name, description or state: there is nothing to change")
        request = UPDATE_NAMED_VERSION.request(
            imodel_id=imodel_id, named_version_id=named_version_id, body=body
        )
        return (await self._call(request)).named_version
