"""The iModels API: iModels that are created, cloned and forked."""

from typing import Final

from itwin_async.emulator._api.baseline import baseline_links
from itwin_async.emulator._api.changesets import CHANGESET
from itwin_async.emulator._api.imodels import (
    IMODEL,
    find_imodel,
    find_itwin,
    read_extent,
    read_name,
    render_imodel,
)
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.validation import (
    InvalidRequest,
    exclude,
    object_property,
    optional_property,
    read_body,
    required_property,
    text_property,
)
from itwin_async.emulator._response import Response
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

_MODES: Final = {"empty": None, "fromimodelversion": "template", "frombaseline": "baselineFile"}


def create_imodel(request: Request) -> Response:
    """Create an iModel: empty, from a template, or from a file that is uploaded next."""
    invalid = IMODEL.invalid_request("Cannot create iModel.")
    body = read_body(request, invalid)
    itwin_id = required_property(body, "iTwinId", str, invalid)
    itwin = find_itwin(request, itwin_id, invalid)
    mode = optional_property(body, "creationMode", str, invalid)
    exclude(body, invalid, "template", "baselineFile")
    if mode is not None and mode.lower() not in _MODES:
        invalid("creationMode", f"'{mode}' is not a valid 'creationMode' value.")
    needed = _MODES.get((mode or "").lower())
    if needed is not None:
        required_property(body, needed, dict, invalid)
    template = object_property(body, "template", invalid)
    if template is not None:
        _check_template(request, template, invalid)
    baseline = object_property(body, "baselineFile", invalid)
    size = None if baseline is None else required_property(baseline, "size", int, invalid)
    if size is not None and size < 1:
        invalid("size", f"'{size}' is not a valid 'size' value.")
    imodel = request.state.create_imodel(
        itwin["id"],
        read_name(request, body, itwin["id"], invalid),
        text_property(body, "description", invalid),
        extent=read_extent(body, invalid),
        containers=optional_property(body, "containersEnabled", int, invalid) or 0,
        # An empty iModel without a mode is there at once: the older way.
        is_instant=mode is None and template is None,
        file_size=size,
        user_id=request.user.id,
    )
    item = render_imodel(request, imodel)
    if size is not None:
        item["_links"] |= baseline_links(request, imodel)
    return IMODEL.one(item, status=201)


def _check_template(request: Request, template: JSON, invalid: InvalidRequest) -> None:
    source = required_property(template, "iModelId", str, invalid)
    imodel = IMODEL.find(request.state.imodels, source)
    changeset_id = optional_property(template, "changesetId", str, invalid)
    if changeset_id and imodel.find_changeset(changeset_id) is None:
        CHANGESET.not_found()


def clone_imodel(request: Request) -> Response:
    """Copy an iModel with its changesets; whether extended data comes along, no page says."""
    source = find_imodel(request)
    invalid = IMODEL.invalid_request("Cannot clone iModel.")
    body = read_body(request, invalid)
    last = _last_changeset(source, body, invalid)
    origin = _origin(source, last)
    imodel = _copy(request, source, body, invalid, last, extent=source.extent, cloned_from=origin)
    return _created(request, imodel)


def fork_imodel(request: Request) -> Response:
    """Fork an iModel; without its history it has no changesets."""
    source = find_imodel(request)
    invalid = IMODEL.invalid_request("Cannot fork iModel.")
    body = read_body(request, invalid)
    last = _last_changeset(source, body, invalid)
    origin = _origin(source, last) | {"relationshipId": seed.guid("fork", source.id, last)}
    keeps_history = optional_property(body, "preserveHistory", bool, invalid)
    copied = last if keeps_history else 0
    imodel = _copy(request, source, body, invalid, copied, forked_from=origin)
    return _created(request, imodel)


def _last_changeset(source: IModel, body: JSON, invalid: InvalidRequest) -> int:
    """The index of the last changeset to copy, 0 for none."""
    exclude(body, invalid, "changesetId", "changesetIndex")
    index = optional_property(body, "changesetIndex", int, invalid)
    id = optional_property(body, "changesetId", str, invalid)
    if index is None and id is None:
        return source.changeset_count
    if index == 0 or id == "":
        return 0
    found = source.find_changeset(str(index) if id is None else id)
    return CHANGESET.not_found() if found is None else found


def _origin(source: IModel, last: int) -> JSON:
    return {"iModelId": source.id, "changesetId": source.changeset_id(last) if last else ""}


def _copy(
    request: Request,
    source: IModel,
    body: JSON,
    invalid: InvalidRequest,
    copied: int,
    *,
    extent: JSON | None = None,
    cloned_from: JSON | None = None,
    forked_from: JSON | None = None,
) -> IModel:
    itwin_id = required_property(body, "iTwinId", str, invalid)
    itwin = find_itwin(request, itwin_id, invalid)
    name = read_name(request, body, itwin["id"], invalid, default=source.name)
    description = text_property(body, "description", invalid)
    containers = optional_property(body, "containersEnabled", int, invalid)
    return request.state.create_imodel(
        itwin["id"],
        name,
        source.description if description is None else description,
        extent=extent,
        containers=source.containers if containers is None else containers,
        source=source,
        copied=copied,
        cloned_from=cloned_from,
        forked_from=forked_from,
        user_id=request.user.id,
    )


def _created(request: Request, imodel: IModel) -> Response:
    """A response without a body, which says where the new iModel is."""
    # No page says which success it is; 202 fits what is not done yet.
    return Response(status=202, headers={"Location": f"{request.origin}/imodels/{imodel.id}"})


def get_creation(request: Request) -> Response:
    """How far the creation of an iModel is."""
    imodel = find_imodel(request)
    creation = imodel.creation
    operation: JSON = {
        "state": creation.state(request.state.clock.time()),
        "clonedFrom": creation.cloned_from,
        "forkedFrom": creation.forked_from,
    }
    return Response(json={"createOperation": operation})
