"""The iModels API: changeset groups."""

from functools import partial
from typing import Final

from itwin_async.emulator._api.imodels import INVALID, MAX_TOP, find_imodel
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import read_body, text_property
from itwin_async.emulator._response import Response
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.imodel_parts import ChangesetGroup
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

_GROUP: Final = Resource(
    key="changesetGroup",
    list_key="changesetGroups",
    noun="Changeset Group",
    missing="ChangesetGroupNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
    has_tokens=True,
)


def find_group(imodel: IModel, id: str) -> ChangesetGroup:
    """The group of this id, or a 404."""
    return _GROUP.find(imodel.groups, id)


def _render(request: Request, imodel: IModel, group: ChangesetGroup) -> JSON:
    creator = f"{request.origin}/imodels/{imodel.id}/users/{group.creator_id}"
    return {
        "id": group.id,
        "description": group.description,
        "state": group.state,
        "creatorId": group.creator_id,
        "createdDateTime": group.created,
        "_links": {"creator": {"href": creator}},
    }


def list_changeset_groups(request: Request) -> Response:
    """The groups of an iModel."""
    imodel = find_imodel(request)
    invalid = _GROUP.invalid_request("Cannot get Changeset Groups.")
    found, render = list(imodel.groups.values()), partial(_render, request, imodel)
    return _GROUP.page(request, found, render, invalid)


def get_changeset_group(request: Request) -> Response:
    """One group."""
    imodel = find_imodel(request)
    group = find_group(imodel, request.params["group_id"])
    return _GROUP.one(_render(request, imodel, group))


def create_changeset_group(request: Request) -> Response:
    """Begin a group."""
    imodel = find_imodel(request)
    invalid = _GROUP.invalid_request("Cannot create Changeset Group.")
    body = read_body(request, invalid)
    group = ChangesetGroup(
        id=seed.guid(imodel.size.seed, "own group", imodel.number, len(imodel.groups)),
        description=text_property(body, "description", invalid, is_required=True) or "",
        created=request.state.timestamp(),
        creator_id=request.user.id,
        state="inProgress",
    )
    imodel.groups[group.id] = group
    return _GROUP.one(_render(request, imodel, group), status=201)


def update_changeset_group(request: Request) -> Response:
    """Close a group."""
    imodel = find_imodel(request)
    group = find_group(imodel, request.params["group_id"])
    invalid = _GROUP.invalid_request("Cannot update Changeset Group.")
    state = text_property(read_body(request, invalid), "state", invalid, is_required=True)
    if state != "completed":
        invalid("state", f"'{state}' is not a valid 'state' value.")
    group.state = state
    return _GROUP.one(_render(request, imodel, group))
