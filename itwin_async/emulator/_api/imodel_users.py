"""The iModels API: users of an iModel, and the caller's permissions."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from itwin_async.emulator._api.imodels import IMODEL, INVALID, MAX_TOP, find_imodel
from itwin_async.emulator._api.odata import read_order, read_parameter, sort
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._identity.users import SERVICE_USER, User
from itwin_async.emulator._response import Response
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

_USER: Final = Resource(
    key="user",
    list_key="users",
    noun="User",
    missing="UserNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
    has_tokens=True,
)
# Who pushed the seeded changesets, in the order of their ids.
_PUSHERS: Final = ("Ada", "Ben", "Eve")
_READ: Final = ("imodels_webview", "imodels_read")
_PERMISSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "owner": (*_READ, "imodels_write", "imodels_manage", "imodels_delete"),
    "reader": _READ,
    "viewer": _READ[:1],
    "none": (),
}


def _users(request: Request) -> dict[str, User]:
    """Everybody who can work with an iModel, by id: who pushed, the service, and people."""
    pushers = {
        seed.guid("user", number): User(
            name, "owner", f"{name.lower().replace(' ', '.')}@example.com"
        )
        for number, name in enumerate(_PUSHERS)
    }
    known = (SERVICE_USER, *request.identity.users.values())
    return pushers | {user.id: user for user in known}


def _render(request: Request, imodel: IModel, item: tuple[str, User]) -> JSON:
    id, user = item
    given, surname = user.names
    pushed = [
        changeset
        for changeset in map(imodel.changeset, range(1, imodel.changeset_count + 1))
        if changeset.creator_id == id
    ]
    statistics: JSON = {
        "pushedChangesetsCount": len(pushed),
        "lastChangesetPushDate": pushed[-1].pushed_at if pushed else None,
        "createdVersionsCount": sum(
            version.creator_id == id for version in imodel.named_versions.values()
        ),
        "briefcasesCount": sum(
            briefcase.owner_id == id for briefcase in imodel.briefcases.values()
        ),
        "applications": [],
    }
    names = {"givenName": given, "surname": surname, "email": user.email}
    return _render_minimal(request, imodel, item) | names | {"statistics": statistics}


def _render_minimal(request: Request, imodel: IModel, item: tuple[str, User]) -> JSON:
    id, user = item
    href = f"{request.origin}/imodels/{imodel.id}/users/{id}"
    return {"id": id, "displayName": user.display_name, "_links": {"self": {"href": href}}}


def list_users(request: Request) -> Response:
    """The users of an iModel."""
    imodel = find_imodel(request)
    invalid = _USER.invalid_request("Cannot get Users.")
    rows: list[JSON] = [
        {"givenName": user.names[0], "surname": user.names[1], "item": (id, user)}
        for id, user in _users(request).items()
    ]
    sort(rows, read_parameter(request, invalid, "$orderBy", read_order, ("givenName", "surname")))
    items: list[tuple[str, User]] = [row["item"] for row in rows]
    render = partial(_render if request.prefers_full else _render_minimal, request, imodel)
    return _USER.page(request, items, render, invalid)


def get_user(request: Request) -> Response:
    """One user of an iModel."""
    imodel, id = find_imodel(request), request.params["user_id"].lower()
    return _USER.one(_render(request, imodel, (id, _USER.find(_users(request), id))))


def get_permissions(request: Request) -> Response:
    """What the caller may do."""
    IMODEL.find(request.state.imodels, request.params["imodel_id"])
    return Response(json={"permissions": list(_PERMISSIONS[request.user.rights])})
