"""The iModels API: iModels."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from itwin_async.emulator._api.odata import read_order, read_parameter, sort
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import (
    InvalidRequest,
    object_property,
    read_body,
    text_property,
)
from itwin_async.emulator._response import Response, is_guid, refuse
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.itwins import CENTERS
from itwin_async.emulator._state.seed import JSON

INVALID: Final = "InvalidiModelsRequest"
MAX_TOP: Final = 1000
IMODEL: Final = Resource(
    key="iModel",
    list_key="iModels",
    noun="iModel",
    missing="iModelNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
    has_tokens=True,
)


def find_imodel(request: Request) -> IModel:
    """The iModel that the path names, or a 404."""
    return IMODEL.find(request.state.imodels, request.params["imodel_id"])


def render_imodel(request: Request, imodel: IModel) -> JSON:
    """An iModel with all its fields."""
    url, number = f"{request.origin}/imodels/{imodel.id}", imodel.number
    is_initialized = request.state.is_initialized(imodel)
    return {
        "id": imodel.id,
        "displayName": imodel.name,
        "dataCenterLocation": CENTERS[number % 3],
        "name": imodel.name,
        "description": imodel.description,
        "state": "initialized" if is_initialized else "notInitialized",
        "createdDateTime": imodel.created,
        "lastChangesetPushDateTime": imodel.last_pushed_at,
        "iTwinId": imodel.itwin_id,
        "isSecured": False,
        "extent": imodel.extent,
        "containersEnabled": imodel.containers,
        "_links": {
            "creator": {"href": f"{url}/users/{imodel.creator_id}"},
            "changesets": {"href": f"{url}/changesets"},
            "namedVersions": {"href": f"{url}/namedversions"},
        },
    }


def _render_minimal(imodel: IModel) -> JSON:
    return {"id": imodel.id, "displayName": imodel.name}


def find_itwin(request: Request, itwin_id: object, invalid: InvalidRequest) -> JSON:
    """The iTwin of this id, or a refusal."""
    if not isinstance(itwin_id, str) or not is_guid(itwin_id):
        invalid("iTwinId", f"'{itwin_id}' is not a valid 'iTwinId' value.")
    itwin = request.state.itwins.get(itwin_id)
    return itwin or refuse(404, "iTwinNotFound", "Requested iTwin is not available.")


def itwin_of_query(request: Request, invalid: InvalidRequest) -> JSON:
    """The iTwin that the query names, or a refusal."""
    itwin_id = request.get("iTwinId")
    if itwin_id is None:
        message = "Required parameter 'iTwinId' is missing."
        invalid("iTwinId", message, "MissingRequiredParameter")
    return find_itwin(request, itwin_id, invalid)


def page_of_imodels(
    request: Request, imodels: Sequence[IModel], invalid: InvalidRequest
) -> Response:
    """A page of these iModels, with all their fields where the request prefers that."""
    render = partial(render_imodel, request) if request.prefers_full else _render_minimal
    return IMODEL.page(request, imodels, render, invalid)


def list_imodels(request: Request) -> Response:
    """The iModels of an iTwin."""
    invalid = IMODEL.invalid_request("Cannot get iModels.")
    itwin = itwin_of_query(request, invalid)
    state = request.get("state")
    if state not in {None, "initialized", "notInitialized"}:
        invalid("state", f"'{state}' is not a valid 'state' value.")
    name, search = request.get("name"), (request.get("$search") or "").lower()
    rows: list[JSON] = [
        {"name": imodel.name, "createdDateTime": imodel.created, "imodel": imodel}
        for imodel in request.state.imodels.values()
        if imodel.itwin_id == itwin["id"]
        and name in {None, imodel.name}
        and (state is None or (state == "initialized") is request.state.is_initialized(imodel))
        and search in f"{imodel.name}\n{imodel.description or ''}".lower()
    ]
    sort(
        rows, read_parameter(request, invalid, "$orderBy", read_order, ("name", "createdDateTime"))
    )
    found: list[IModel] = [row["imodel"] for row in rows]
    return page_of_imodels(request, found, invalid)


def get_imodel(request: Request) -> Response:
    """One iModel."""
    return IMODEL.one(render_imodel(request, find_imodel(request)))


def read_name(
    request: Request, body: JSON, itwin_id: str, invalid: InvalidRequest, default: str | None = None
) -> str:
    """The name of an iModel in a body, which no other one of its iTwin may have."""
    name = text_property(body, "name", invalid, is_required=default is None) or default or ""
    imodels = request.state.imodels.values()
    if any(imodel.name == name for imodel in imodels if imodel.itwin_id == itwin_id):
        refuse(409, "iModelExists", "iModel with the same name already exists within the iTwin.")
    return name


def update_imodel(request: Request) -> Response:
    """Change what the body has of name, description and extent."""
    imodel = find_imodel(request)
    invalid = IMODEL.invalid_request("Cannot update iModel.")
    body = read_body(request, invalid)
    extent = read_extent(body, invalid)
    description = text_property(body, "description", invalid)
    if not {"name", "description", "extent"} & body.keys():
        invalid(None, "At least one property must be provided.", "InvalidRequestBody")
    if body.get("name", imodel.name) != imodel.name:
        imodel.name = read_name(request, body, imodel.itwin_id, invalid)
    imodel.description = imodel.description if description is None else description
    imodel.extent = extent or imodel.extent
    return IMODEL.one(render_imodel(request, imodel))


def read_extent(body: JSON, invalid: InvalidRequest) -> JSON | None:
    """The extent in a body, or None."""
    extent = object_property(body, "extent", invalid)
    match extent:
        case None:
            return None
        case {
            "southWest": {"latitude": int() | float(), "longitude": int() | float()},
            "northEast": {"latitude": int() | float(), "longitude": int() | float()},
        }:
            return extent
        case _:
            return invalid("extent", "Provided 'extent' value is not valid.")


def delete_imodel(request: Request) -> Response:
    """Delete an iModel with all that belongs to it."""
    request.state.delete_imodel(find_imodel(request), user_id=request.user.id)
    return Response(status=204)
