"""The EDFS API: external systems, timers, and the roles of packages."""

from typing import Any, Final, cast
from uuid import uuid4

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import (
    InvalidRequest,
    optional_property,
    read_body,
    required_object,
    required_property,
    text_property,
)
from itwin_async.emulator._response import Response, is_guid, refuse
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.collection import Collection
from itwin_async.emulator._state.extensions import PRIMARY_ACCOUNT
from itwin_async.emulator._state.seed import JSON

_EXECUTE: Final = "Execute Integration Package"


def _resource(entity: str, key: str) -> Resource:
    """A resource whose codes follow the pattern of this API."""
    return Resource(
        key=key,
        list_key=f"{key}s",
        noun=entity,
        missing=f"{entity}NotFound",
        invalid=f"Invalid{entity}Request",
    )


_SYSTEM: Final = _resource("System", "system")
_SYSTEM_LIST: Final = _resource("SystemList", "system")
_TIMER: Final = _resource("Timer", "timer")
_TIMER_LIST: Final = _resource("TimerList", "timer")
_ASSIGNMENTS: Final = _resource("AssignmentList", "assignment")


def _itwin_id(request: Request, resource: Resource, invalid: InvalidRequest) -> str:
    """The id of the iTwin that the path names, or a refusal."""
    itwin_id = request.params["itwin_id"]
    if not is_guid(itwin_id):
        invalid("iTwinId", f"'{itwin_id}' is not a valid 'iTwinId' value.")
    itwin = resource.find(request.state.itwins, itwin_id)
    return cast("str", itwin["id"])


def _systems(request: Request, resource: Resource, verb: str) -> Collection[JSON]:
    invalid = resource.invalid_request(f"Cannot {verb} {resource.noun}.")
    return request.state.edfs.systems[_itwin_id(request, resource, invalid)]


def list_systems(request: Request) -> Response:
    """The systems of an iTwin; this list has no pages, and no credentials."""
    systems = _systems(request, _SYSTEM_LIST, "retrieve")
    return Response(json={"systems": list(systems.values())})


def create_system(request: Request) -> Response:
    """Add a system."""
    systems = _systems(request, _SYSTEM, "create")
    invalid = _SYSTEM.invalid_request("Cannot create System.")
    body = read_body(request, invalid)
    name = text_property(body, "name", invalid, is_required=True)
    shown: JSON = {"id": str(uuid4()), "systemName": name}
    for key in ("systemId", "systemType"):
        shown[key] = text_property(body, key, invalid, is_required=True)
    credentials = required_object(body, "credentials", invalid)
    if not all(isinstance(value, str) for value in credentials.values()):
        invalid("credentials", "The values of 'credentials' must be strings.")
    if any(system["systemName"] == name for system in systems.values()):
        # The page has a 409, whose code was not seen; the API's pattern gives it.
        refuse(409, "SystemExists", "System with the same name already exists.")
    systems[shown["id"]] = {
        **shown,
        "organizationId": PRIMARY_ACCOUNT,
        "lastChange": request.state.timestamp(),
        "lastChangeBy": request.user.id,
        "lastChangeByName": request.user.display_name,
    }
    return Response(status=201, json=shown)


def delete_system(request: Request) -> Response:
    """Delete a system."""
    systems, id = _systems(request, _SYSTEM, "remove"), request.params["id"]
    if not is_guid(id):
        _SYSTEM.invalid_request("Cannot remove System.")("id", f"'{id}' is not a valid 'id' value.")
    _SYSTEM.find(systems, id)
    del systems[id]
    return Response(status=204)


def _timers(request: Request, resource: Resource, verb: str) -> Collection[JSON]:
    invalid = resource.invalid_request(f"Cannot {verb} {resource.noun}.")
    return request.state.edfs.timers[_itwin_id(request, resource, invalid)]


def list_timers(request: Request) -> Response:
    """The timers of an iTwin; this list has no pages."""
    return Response(json={"timers": list(_timers(request, _TIMER_LIST, "retrieve").values())})


def create_timer(request: Request) -> Response:
    """Add a timer, which never executes anything here."""
    timers = _timers(request, _TIMER, "create")
    invalid = _TIMER.invalid_request("Cannot create Timer.")
    body = read_body(request, invalid)
    timer: JSON = {"id": str(uuid4())}
    for key in ("name", "packageUniqueName", "cronStr"):
        timer[key] = text_property(body, key, invalid, is_required=True)
    if timer["packageUniqueName"] not in request.state.packages:
        invalid("packageUniqueName", "The package is not available.")
    if not 5 <= len(timer["cronStr"].split()) <= 7:
        invalid("cronStr", "'cronStr' must have five to seven fields.")
    enabled = optional_property(body, "enabled", bool, invalid)
    timer["enabled"] = enabled is not False
    timer["parameters"] = optional_property(body, "parameters", list, invalid) or []
    timers[timer["id"]] = timer
    return Response(status=201, json=timer)


def _find_timer(request: Request, verb: str) -> tuple[Collection[JSON], JSON]:
    timers = _timers(request, _TIMER, verb)
    return timers, _TIMER.find(timers, request.params["timer_id"])


def toggle_timer(request: Request) -> Response:
    """Enable a timer, or disable it."""
    _, timer = _find_timer(request, "retrieve")
    timer["enabled"] = not timer["enabled"]
    return Response(json=timer)


def delete_timer(request: Request) -> Response:
    """Delete a timer."""
    timers, timer = _find_timer(request, "remove")
    del timers[timer["id"]]
    return Response(status=204)


def _package_role(request: Request) -> JSON:
    role = seed.guid(request.state.size.seed, "role")
    return {"roleId": role, "name": _EXECUTE, "description": _EXECUTE}


def list_package_roles(request: Request) -> Response:
    """The roles of packages; its path hides a package of the name ``roles``."""
    return Response(json={"packageRoles": [_package_role(request)]})


def _assignments(request: Request, verb: str) -> dict[str, list[str]]:
    invalid = _ASSIGNMENTS.invalid_request(f"Cannot {verb} AssignmentList.")
    itwin_id, name = _itwin_id(request, _ASSIGNMENTS, invalid), request.params["unique_name"]
    _ASSIGNMENTS.find(request.state.packages, name)
    return request.state.edfs.assignments[itwin_id, name]


def _render_assignments(request: Request, assignments: dict[str, list[str]]) -> Response:
    role = _package_role(request)
    shown = {"packageRoleName": role["name"], "packageRoleId": role["roleId"]}
    listed = [
        {"iTwinRoleName": "EDFS_integration", "iTwinRoleId": id, "packageRoles": [shown] * len(ids)}
        for id, ids in assignments.items()
    ]
    return Response(json={"assignments": listed})


def list_role_assignments(request: Request) -> Response:
    """The roles of an iTwin that have package roles of a package."""
    return _render_assignments(request, _assignments(request, "retrieve"))


def add_role_assignments(request: Request) -> Response:
    """Give roles of an iTwin package roles of a package."""
    assignments = _assignments(request, "create")
    invalid = _ASSIGNMENTS.invalid_request("Cannot create AssignmentList.")
    body = read_body(request, invalid)
    known = _package_role(request)["roleId"]
    added: dict[str, list[str]] = {}
    required_property(body, "assignments", list, invalid)
    items: list[Any] = body["assignments"]
    for item in items:
        match item:
            case {"iTwinRoleId": str(role), "packageRoleIds": [*ids]} if is_guid(role):
                if set(ids) != {known}:
                    invalid("PackageRoleIds", "The package role is not available.")
                added[role] = [known]
            case _:
                invalid("ITwinRoleId", "A valid 'iTwinRoleId' was not specified.")
    assignments.update(added)
    return _render_assignments(request, assignments)
