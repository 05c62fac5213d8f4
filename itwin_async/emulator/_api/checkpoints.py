"""The iModels API: checkpoints."""

from typing import Final

from itwin_async.emulator._api.changesets import find_changeset
from itwin_async.emulator._api.imodels import find_imodel
from itwin_async.emulator._api.named_versions import find_named_version
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.storage import directory_access, download_link
from itwin_async.emulator._response import Response
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

_LEAST_SIZE: Final = 500_000  # bytes


def _respond(request: Request, imodel: IModel, index: int) -> Response:
    state, number = imodel.look_at_checkpoint(index), imodel.number
    is_ready = state == "successful"
    size = _LEAST_SIZE + seed.number(_LEAST_SIZE, "checkpoint", number, index) if is_ready else 0
    name = f"checkpoints/{index}.bim"
    item: JSON = {
        "changesetId": imodel.changeset_id(index) if index else "",
        "changesetIndex": index,
        "size": size,
        "state": state,
        "dbName": seed.guid("checkpoint", number, index),
        "directoryAccessInfo": directory_access(request, imodel.id, name) if is_ready else None,
        "_links": {
            "download": download_link(request, imodel.id, name, size) if is_ready else None,
        },
    }
    return Response(json={"checkpoint": item})


def get_changeset_checkpoint(request: Request) -> Response:
    """The last checkpoint at or before a changeset."""
    imodel = find_imodel(request)
    index = find_changeset(request, imodel)
    return _respond(request, imodel, imodel.checkpoint_at(index))


def get_named_version_checkpoint(request: Request) -> Response:
    """The checkpoint of a named version."""
    imodel = find_imodel(request)
    return _respond(request, imodel, find_named_version(request, imodel).changeset_index)


def get_latest_checkpoint(request: Request) -> Response:
    """The last checkpoint of an iModel, with which a briefcase begins."""
    imodel = find_imodel(request)
    return _respond(request, imodel, imodel.checkpoint_at(imodel.changeset_count))


def generate_checkpoint(request: Request) -> Response:
    """Generate the checkpoint of a named version again, where that failed."""
    imodel = find_imodel(request)
    index = find_named_version(request, imodel).changeset_index
    if imodel.checkpoints.get(index) in {"failed", "notGenerated"}:
        imodel.checkpoints[index] = "scheduled"
    return _respond(request, imodel, index)
