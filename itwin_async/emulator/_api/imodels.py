"""The iModels API: iModels."""

from functools import partial
from typing import Final

from itwin_async.emulator._api.odata import read_order, read_parameter, sort
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._response import Response, is_guid, refuse
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.itwins import CENTERS
from itwin_async.emulator._state.seed import JSON

INVALID: Final = "InvalidiModelsRequest"
MAX_TOP: Final = 1000
_IMODEL: Final = Resource(
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
    return _IMODEL.find(request.state.imodels, request.params["imodel_id"])


def user_link(request: Request, imodel: IModel, number: int) -> JSON:
    """The link to one of the three users who push changesets."""
    creator = seed.guid("user", number % 3)
    return {"href": f"{request.origin}/imodels/{imodel.id}/users/{creator}"}


def _render(request: Request, imodel: IModel) -> JSON:
    url, number = f"{request.origin}/imodels/{imodel.id}", imodel.number
    south, west = 36.0 + number % 20, -115.0 + number % 40
    return {
        "id": imodel.id,
        "displayName": imodel.name,
        "dataCenterLocation": CENTERS[number % 3],
        "name": imodel.name,
        "description": imodel.description,
        "state": "initialized",
        "createdDateTime": imodel.created,
        "lastChangesetPushDateTime": imodel.last_pushed_at,
        "iTwinId": imodel.itwin_id,
        "isSecured": False,
        "extent": {
            "southWest": {"latitude": south, "longitude": west},
            "northEast": {"latitude": south + 0.25, "longitude": west + 0.25},
        },
        "containersEnabled": 0,
        "_links": {
            "creator": user_link(request, imodel, number),
            "changesets": {"href": f"{url}/changesets"},
            "namedVersions": {"href": f"{url}/namedversions"},
        },
    }


def _render_minimal(imodel: IModel) -> JSON:
    return {"id": imodel.id, "displayName": imodel.name}


def list_imodels(request: Request) -> Response:
    """The iModels of an iTwin."""
    invalid = _IMODEL.invalid_request("Cannot get iModels.")
    itwin_id = request.get("iTwinId")
    if itwin_id is None:
        message = "Required parameter 'iTwinId' is missing."
        invalid("iTwinId", message, "MissingRequiredParameter")
    if not is_guid(itwin_id):
        invalid("iTwinId", f"'{itwin_id}' is not a valid 'iTwinId' value.")
    itwin = request.state.itwins.get(itwin_id)
    if itwin is None:
        refuse(404, "iTwinNotFound", "Requested iTwin is not available.")
    state = request.get("state")
    if state not in {None, "initialized", "notInitialized"}:
        invalid("state", f"'{state}' is not a valid 'state' value.")
    name, search = request.get("name"), (request.get("$search") or "").lower()
    # Every iModel is initialized here.
    rows: list[JSON] = [
        {"name": imodel.name, "createdDateTime": imodel.created, "imodel": imodel}
        for imodel in request.state.imodels.values()
        if imodel.itwin_id == itwin["id"]
        and name in {None, imodel.name}
        and state != "notInitialized"
        and search in f"{imodel.name}\n{imodel.description or ''}".lower()
    ]
    sort(
        rows, read_parameter(request, invalid, "$orderBy", read_order, ("name", "createdDateTime"))
    )
    found: list[IModel] = [row["imodel"] for row in rows]
    render = partial(_render, request) if request.prefers_full else _render_minimal
    return _IMODEL.page(request, found, render, invalid)


def get_imodel(request: Request) -> Response:
    """One iModel."""
    return _IMODEL.one(_render(request, find_imodel(request)))
