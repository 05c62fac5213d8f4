"""The iModels API: named versions."""

from functools import partial
from typing import Final

from itwin_async.emulator._api.imodels import INVALID, MAX_TOP, find_imodel
from itwin_async.emulator._api.odata import read_order, read_parameter, sort
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import InvalidRequest, read_body, text_property
from itwin_async.emulator._response import Response, refuse
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.imodel_parts import NamedVersion
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

_STATES: Final = ("visible", "hidden")
_VERSION: Final = Resource(
    key="namedVersion",
    list_key="namedVersions",
    noun="Named Version",
    missing="NamedVersionNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
    has_tokens=True,
)


def find_named_version(request: Request, imodel: IModel) -> NamedVersion:
    """The named version that the path names, or a 404."""
    return _VERSION.find(imodel.named_versions, request.params["named_version_id"])


def _render(request: Request, imodel: IModel, version: NamedVersion, *, full: bool) -> JSON:
    url = f"{request.origin}/imodels/{imodel.id}"
    item: JSON = {
        "id": version.id,
        "displayName": version.name,
        "changesetId": version.changeset_id,
        "changesetIndex": version.changeset_index,
    }
    if full:
        changeset = version.changeset_id and {"href": f"{url}/changesets/{version.changeset_id}"}
        item |= {
            "name": version.name,
            "description": version.description,
            "createdDateTime": version.created,
            "state": version.state,
            "application": version.application,
            "_links": {
                "creator": {"href": f"{url}/users/{version.creator_id}"},
                "changeset": changeset,
            },
        }
    return item


def list_named_versions(request: Request) -> Response:
    """The named versions of an iModel, hidden ones too."""
    imodel = find_imodel(request)
    invalid = _VERSION.invalid_request("Cannot get Named Versions.")
    name, search = request.get("name"), (request.get("$search") or "").lower()
    state = request.get("state")
    if state is not None and state not in _STATES:
        invalid("state", f"'{state}' is not a valid 'state' value.")
    rows: list[JSON] = [
        {
            "changesetIndex": version.changeset_index,
            "createdDateTime": version.created,
            "version": version,
        }
        for version in imodel.named_versions.values()
        if name in {None, version.name}
        and state in {None, version.state}
        and search in f"{version.name}\n{version.description or ''}".lower()
    ]
    fields = "changesetIndex", "createdDateTime"
    sort(rows, read_parameter(request, invalid, "$orderBy", read_order, fields))
    found: list[NamedVersion] = [row["version"] for row in rows]
    render = partial(_render, request, imodel, full=request.prefers_full)
    return _VERSION.page(request, found, render, invalid)


def get_named_version(request: Request) -> Response:
    """One named version."""
    imodel = find_imodel(request)
    version = find_named_version(request, imodel)
    return _VERSION.one(_render(request, imodel, version, full=True))


def create_named_version(request: Request) -> Response:
    """Name a changeset, or the baseline; start its checkpoint."""
    imodel = find_imodel(request)
    invalid = _VERSION.invalid_request("Cannot create Named Version.")
    body = read_body(request, invalid)
    name = text_property(body, "name", invalid, is_required=True) or ""
    description = text_property(body, "description", invalid)
    changeset_id = text_property(body, "changesetId", invalid) or None
    index = 0
    if changeset_id is not None:
        found = imodel.find_changeset(changeset_id) if len(changeset_id) == 40 else None
        if found is None:
            refuse(404, "ChangesetNotFound", "Requested Changeset is not available.")
        index = found
    if imodel.version_on(index) is not None:
        message = "Named Version on the Changeset already exists."
        refuse(409, "NamedVersionOnChangesetExists", message)
    _refuse_taken_name(imodel, name, None)
    version = NamedVersion(
        id=seed.guid(imodel.size.seed, "named", imodel.number, len(imodel.named_versions)),
        name=name,
        description=description,
        changeset_id=imodel.changeset_id(index) if index else None,
        changeset_index=index,
        created=request.state.timestamp(),
        creator_id=request.user.id,
    )
    request.state.add_named_version(imodel, version)
    return _VERSION.one(_render(request, imodel, version, full=True), status=201)


def update_named_version(request: Request) -> Response:
    """Change the name, the description or the state."""
    imodel = find_imodel(request)
    version = find_named_version(request, imodel)
    invalid = _VERSION.invalid_request("Cannot update Named Version.")
    body = read_body(request, invalid)
    _require_any(body, ("name", "description", "state"), invalid)
    name = text_property(body, "name", invalid)
    description = text_property(body, "description", invalid)
    state = text_property(body, "state", invalid)
    if state is not None and state not in _STATES:
        invalid("state", f"'{state}' is not a valid 'state' value.")
    if name is not None:
        _refuse_taken_name(imodel, name, version)
        version.name = name
    version.description = description if "description" in body else version.description
    version.state = state or version.state
    return _VERSION.one(_render(request, imodel, version, full=True))


def _require_any(body: JSON, names: tuple[str, ...], invalid: InvalidRequest) -> None:
    if not any(name in body for name in names):
        message = f"At least one of {', '.join(names)} is required."
        invalid(None, message, "MissingRequiredProperty")


def _refuse_taken_name(imodel: IModel, name: str, own: NamedVersion | None) -> None:
    if any(other.name == name and other is not own for other in imodel.named_versions.values()):
        message = "Named Version with the same name already exists."
        refuse(409, "NamedVersionExists", message)
