"""The iModels API: briefcases."""

from functools import partial
from typing import Final

from itwin_async.emulator._api.imodels import INVALID, MAX_TOP, find_imodel
from itwin_async.emulator._api.odata import read_order, read_parameter, sort
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import text_property
from itwin_async.emulator._response import Response, read_object, refuse
from itwin_async.emulator._state.imodel_parts import FIRST_BRIEFCASE, Briefcase
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

# No page says how many the platform allows.
_MAX_OF_A_USER: Final = 20
_SIZE: Final = 1_000_000  # bytes
_BRIEFCASE: Final = Resource(
    key="briefcase",
    list_key="briefcases",
    noun="Briefcase",
    missing="BriefcaseNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
    has_tokens=True,
)


def find_briefcase(imodel: IModel, number: object) -> Briefcase:
    """The briefcase of this number, or a 404."""
    return _BRIEFCASE.find(imodel.briefcases, str(number))


def _render(request: Request, imodel: IModel, briefcase: Briefcase, *, full: bool) -> JSON:
    url, id = f"{request.origin}/imodels/{imodel.id}", str(briefcase.number)
    item: JSON = {"id": id, "displayName": id}
    if full:
        item |= {
            "briefcaseId": briefcase.number,
            "ownerId": briefcase.owner_id,
            "acquiredDateTime": briefcase.acquired,
            "fileSize": briefcase.file_size,
            "deviceName": briefcase.device_name,
            "application": briefcase.application,
            "_links": {
                "owner": {"href": f"{url}/users/{briefcase.owner_id}"},
                "checkpoint": {"href": f"{url}/briefcases/checkpoint"},
            },
        }
    return item


def list_briefcases(request: Request) -> Response:
    """The briefcases of an iModel."""
    imodel = find_imodel(request)
    invalid = _BRIEFCASE.invalid_request("Cannot get Briefcases.")
    owner = request.get("ownerId")
    owner = request.user.id if owner == "me" else owner
    rows: list[JSON] = [
        {"acquiredDateTime": briefcase.acquired, "briefcase": briefcase}
        for briefcase in imodel.briefcases.values()
        if owner in {None, briefcase.owner_id}
    ]
    sort(rows, read_parameter(request, invalid, "$orderBy", read_order, ("acquiredDateTime",)))
    found: list[Briefcase] = [row["briefcase"] for row in rows]
    render = partial(_render, request, imodel, full=request.prefers_full)
    return _BRIEFCASE.page(request, found, render, invalid)


def get_briefcase(request: Request) -> Response:
    """One briefcase."""
    imodel = find_imodel(request)
    briefcase = find_briefcase(imodel, request.params["briefcase_id"])
    return _BRIEFCASE.one(_render(request, imodel, briefcase, full=True))


def acquire_briefcase(request: Request) -> Response:
    """Give the caller a briefcase."""
    imodel = find_imodel(request)
    invalid = _BRIEFCASE.invalid_request("Cannot acquire Briefcase.")
    device = text_property(read_object(request.body) or {}, "deviceName", invalid)
    owned = [
        briefcase
        for briefcase in imodel.briefcases.values()
        if briefcase.owner_id == request.user.id
    ]
    if len(owned) >= _MAX_OF_A_USER:
        message = f"A user cannot have more than {_MAX_OF_A_USER} Briefcases."
        refuse(409, "MaximumNumberOfBriefcasesPerUser", message)
    imodel.last_briefcase = number = (
        max([imodel.last_briefcase, FIRST_BRIEFCASE - 1, *map(int, imodel.briefcases)]) + 1
    )
    briefcase = Briefcase(
        number=number,
        owner_id=request.user.id,
        acquired=request.state.timestamp(),
        file_size=_SIZE,
        device_name=device,
    )
    imodel.briefcases[str(number)] = briefcase
    return _BRIEFCASE.one(_render(request, imodel, briefcase, full=True), status=201)


def release_briefcase(request: Request) -> Response:
    """Take a briefcase back, with its locks."""
    imodel = find_imodel(request)
    briefcase = find_briefcase(imodel, request.params["briefcase_id"])
    held = list(imodel.locks.of(briefcase.number))
    imodel.locks.release(briefcase.number, held, imodel.changeset_count)
    del imodel.briefcases[str(briefcase.number)]
    return Response(status=204)
