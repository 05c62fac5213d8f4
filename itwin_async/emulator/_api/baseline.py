"""The iModels API: baseline files."""

from typing import Final

from itwin_async.emulator._api.imodels import IMODEL, find_imodel
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.storage import download_link, upload_link
from itwin_async.emulator._response import Response, refuse
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.creation import BASELINE_FILE
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

_URL: Final = "baselinefile"


def baseline_links(request: Request, imodel: IModel) -> JSON:
    """Where the baseline file of a new iModel goes, and how it is confirmed."""
    complete = f"{request.origin}/imodels/{imodel.id}/{_URL}"
    upload = upload_link(request, imodel.id, BASELINE_FILE)
    return {"upload": upload, "complete": {"href": complete}}


def get_baseline_file(request: Request) -> Response:
    """The baseline file of an iModel."""
    return Response(json=_render(request, find_imodel(request)))


def _render(request: Request, imodel: IModel) -> JSON:
    creation = imodel.creation
    state, download = creation.file_state(request.state.clock.time()), None
    if state == "initialized":
        download = download_link(request, imodel.id, BASELINE_FILE, creation.file_size)
    creator = f"{request.origin}/imodels/{imodel.id}/users/{imodel.creator_id}"
    item: JSON = {
        "id": seed.guid("baseline", imodel.id),
        "displayName": imodel.name,
        "fileSize": creation.file_size,
        "state": state,
        "_links": {"creator": {"href": creator}, "download": download},
    }
    return {"baselineFile": item}


def confirm_baseline_file(request: Request) -> Response:
    """Take the uploaded file, which must have the size that was announced."""
    imodel = find_imodel(request)
    if not imodel.creation.waits_for_file:
        invalid = IMODEL.invalid_request("Cannot confirm Baseline File.", "InvalidChange")
        invalid("state", "The Baseline File is not waited for.")
    file = request.state.storage.find(imodel.id, BASELINE_FILE)
    if file is None:
        refuse(404, "FileNotFound", "Requested File is not available.")
    if file.size != imodel.creation.file_size:
        refuse(409, "DataConflict", "The size of the Baseline File differs from the announced one.")
    request.state.confirm_baseline(imodel)
    return Response(json=_render(request, imodel))
