"""One table says which operations there are; the names are those of the client's methods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from itwin_async.emulator import _extensions, _imodels, _itwins, _packages
from itwin_async.emulator._answers import Answer
from itwin_async.emulator._call import Call

_PACKAGE: Final = "/edfs/itwins/{itwin_id}/packages/{unique_name}"
_DATA: Final = "/imodels/{imodel_id}/changesets/{changeset}/extendeddata"

ROUTES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "list_extensions": ("GET", "/extensions/"),
        "create_extension": ("POST", "/extensions/"),
        "delete_extension": ("DELETE", "/extensions/{extension_id}"),
        "list_versions": ("GET", "/extensions/{extension_id}/versions"),
        "get_version": ("GET", "/extensions/{extension_id}/versions/{number}"),
        "list_imodels": ("GET", "/imodels/"),
        "get_imodel": ("GET", "/imodels/{imodel_id}"),
        "list_changesets": ("GET", "/imodels/{imodel_id}/changesets"),
        "list_extended_data": ("GET", "/imodels/{imodel_id}/changesets/extendeddata"),
        "get_changeset": ("GET", "/imodels/{imodel_id}/changesets/{changeset}"),
        "get_extended_data": ("GET", _DATA),
        "create_extended_data": ("POST", _DATA),
        "list_packages": ("GET", "/edfs/packages"),
        "get_package": ("GET", "/edfs/packages/{unique_name}"),
        "execute_package": ("POST", _PACKAGE),
        "list_entity_sets": ("GET", f"{_PACKAGE}/odata"),
        "list_entities": ("GET", f"{_PACKAGE}/odata/{{entity_set}}"),
        "list_itwins": ("GET", "/itwins/"),
        "get_primary_account": ("GET", "/itwins/myprimaryaccount"),
        "get_account": ("GET", "/itwins/{itwin_id}/account"),
    }
)
"""Operation name to method and path; where two paths fit, the one without a name in it wins."""

# What a client meets without having a method for it.
_MORE: Final = {
    "list_package_roles": ("GET", "/edfs/packages/roles"),
    "get_odata_metadata": ("GET", f"{_PACKAGE}/odata/$metadata"),
    "token": ("POST", "/connect/token"),
    "download": ("GET", "/blob/{extension_id}/{number}/files/{name}"),
    "download_archive": ("GET", "/blob/{extension_id}/{number}/archive.zip"),
}

_MODULES: Final = (_extensions, _imodels, _packages, _itwins)


@dataclass(frozen=True, slots=True)
class Route:
    """One operation; ``serve`` is None for what is not part of the API behind the token."""

    name: str
    method: str
    segments: tuple[str, ...]
    serve: Callable[[Call], Answer] | None

    @property
    def api(self) -> str:
        """The API it belongs to: the first part of its path."""
        return self.segments[0]

    @property
    def version(self) -> int:
        """The version that belongs into ``Accept``."""
        return 2 if self.api == "imodels" else 1

    def match(self, method: str, segments: list[str]) -> dict[str, str] | None:
        """The values of the names in the path, or None when it does not fit."""
        # File names may hold slashes, which is why the last name of a download takes the rest.
        if self.name == "download" and len(segments) > len(self.segments):
            rest = len(self.segments) - 1
            segments = [*segments[:rest], "/".join(segments[rest:])]
        if method != self.method or len(segments) != len(self.segments):
            return None
        found: dict[str, str] = {}
        for mine, theirs in zip(self.segments, segments, strict=True):
            if mine.startswith("{"):
                if not theirs:
                    return None
                found[mine[1:-1]] = unquote(theirs)
            elif mine != unquote(theirs):
                return None
        return found


def _find(name: str) -> Callable[[Call], Answer] | None:
    found = (getattr(module, name, None) for module in _MODULES)
    return next(filter(None, found), None)


def _table() -> tuple[Route, ...]:
    routes = [
        Route(name, method, tuple(path.strip("/").split("/")), _find(name))
        for name, (method, path) in {**ROUTES, **_MORE}.items()
    ]
    return tuple(sorted(routes, key=lambda route: "".join(route.segments).count("{")))


_TABLE: Final = _table()
NAMES: Final = frozenset(route.name for route in _TABLE)


def find_route(method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
    """The operation behind a path as it was sent, with or without a slash at its end.

    A HEAD is the GET without the body.
    """
    method = "GET" if method == "HEAD" else method
    segments = raw_path.removeprefix("/").removesuffix("/").split("/")
    for route in _TABLE:
        found = route.match(method, segments)
        if found is not None:
            return route, found
    return None
