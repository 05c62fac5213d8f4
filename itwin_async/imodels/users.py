"""Who works with an iModel, and what the caller may do with it."""

from datetime import datetime
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, Record, assume_utc
from itwin_async._core.validation import Id, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager
from itwin_async.imodels.lists import check_page_size, prefer

UserOrder: TypeAlias = Literal[
    "givenName", "givenName asc", "givenName desc", "surname", "surname asc", "surname desc"
]


class UserApplication(Record, frozen=True, kw_only=True):
    """An application that a user works on an iModel with, and whether it holds locks."""

    id: str | None = None
    name: str | None = None
    owns_locks: bool | None = None
    owns_exclusive_root_element_lock: bool | None = None

    _repr_fields: ClassVar = ("name", "id", "owns_locks")


class UserStatistics(Record, frozen=True, kw_only=True):
    """What a user has done in an iModel."""

    pushed_changesets_count: int | None = None
    last_changeset_push_date: datetime | None = None
    created_versions_count: int | None = None
    briefcases_count: int | None = None
    applications: tuple[UserApplication, ...] = ()

    _repr_fields: ClassVar = ("pushed_changesets_count", "last_changeset_push_date")

    def __post_init__(self) -> None:
        assume_utc(self, "last_changeset_push_date")


class UserLinks(Record, frozen=True, kw_only=True):
    """Links of a user of an iModel."""

    self_: Link | None = None

    _repr_fields: ClassVar = ("self_",)


class IModelUser(Record, frozen=True, kw_only=True):
    """A user of an iModel, such as the creator of a changeset.

    A list always has ``id`` and ``display_name``, the rest by representation. The names and the
    address of a removed user may be missing.
    """

    id: str
    display_name: str | None = None
    given_name: str | None = None
    surname: str | None = None
    email: str | None = None
    statistics: UserStatistics | None = None
    links: UserLinks | None = None

    _repr_fields: ClassVar = ("display_name", "id", "email")


class UserPage(LinkedPage[IModelUser]):
    """A page of users."""

    users: list[IModelUser]


class IModelUserBody(msgspec.Struct):
    """The response with one user."""

    user: IModelUser


class PermissionsBody(msgspec.Struct):
    """The response with the caller's permissions."""

    permissions: tuple[str, ...]


LIST_USERS: Final = Operation("GET", "/imodels/{imodel_id}/users", UserPage, version="v2")
GET_USER: Final = Operation(
    "GET", "/imodels/{imodel_id}/users/{user_id}", IModelUserBody, version="v2"
)
GET_PERMISSIONS: Final = Operation(
    "GET", "/imodels/{imodel_id}/permissions", PermissionsBody, version="v2"
)


class UserOperations(OperationGroup):
    """Operations on the users of an iModel."""

    def list_users(
        self,
        imodel_id: Id,
        *,
        order_by: UserOrder | None = None,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[IModelUser]:
        """The users of an iModel.

        ``order_by`` is such as ``surname asc`` or ``givenName desc``. ``representation`` asks for
        all fields. ``page_size`` is 100 by default and at most 1,000. Iterating raises
        `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-users/

        Example::

            users = itwin.imodels.list_users(imodel_id)
            names = {user.id: user.display_name async for user in users}
        """
        check_text("order_by", order_by)
        check_page_size(page_size)
        request = LIST_USERS.request(
            imodel_id=imodel_id,
            query={"$orderBy": order_by, "$top": page_size},
            headers=prefer(representation),
        )
        return self._list(request)

    async def get_user(self, imodel_id: Id, user_id: Id) -> IModelUser:
        """One user of an iModel. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-user-details/

        Example::

            changeset = await itwin.imodels.get_changeset(imodel_id, 1)
            creator = await itwin.imodels.get_user(imodel_id, changeset.creator_id)
        """
        answer = await self._call(GET_USER.request(imodel_id=imodel_id, user_id=user_id))
        return answer.user

    async def get_permissions(self, imodel_id: Id) -> frozenset[str]:
        """What the caller may do with an iModel.

        ``imodels_webview``, ``imodels_read``, ``imodels_write``, ``imodels_manage`` and
        ``imodels_delete``, so far. Tells an iModel that is empty from one that the caller may not
        see. Raises `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-user-permissions/

        Example::

            if "imodels_write" in await itwin.imodels.get_permissions(imodel_id):
                print("you may push")
        """
        answer = await self._call(GET_PERMISSIONS.request(imodel_id=imodel_id))
        # The platform's own client spells one of them with a hyphen, its pages do not.
        return frozenset(name.replace("-", "_") for name in answer.permissions)
