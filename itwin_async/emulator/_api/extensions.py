"""The Extensions API: extensions and their versions."""

from functools import partial
from typing import Final

from itwin_async.emulator._api.downloads import file_json
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import optional_property, read_body
from itwin_async.emulator._response import Response, is_guid, read_flag, refuse
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.extensions import Extension, Version
from itwin_async.emulator._state.seed import JSON

_INVALID: Final = "InvalidExtensionsRequest"
_NO_ITWIN: Final = (
    "A valid iTwinId was not specified in the query. The value is missing or not a valid GUID."
)
_NO_ID: Final = _NO_ITWIN.replace("iTwinId", "extensionId")

_EXTENSION: Final = Resource(
    key="extension",
    list_key="extensions",
    noun="extension",
    missing="ExtensionsNotFound",
    invalid=_INVALID,
    style=LinkStyle.EXTENSIONS,
)
_VERSION: Final = Resource(
    key="version",
    list_key="versions",
    noun="version",
    # The page has no code for this; the one of update-version is used.
    missing="VersionNotFound",
    invalid=_INVALID,
    style=LinkStyle.EXTENSIONS,
)


def _itwin_link(request: Request, extension: Extension) -> JSON:
    return {"href": f"{request.origin}/iTwins/{extension.itwin_id}"}


def _render(request: Request, extension: Extension) -> JSON:
    item: JSON = {"id": extension.id, "name": extension.name}
    if extension.description is not None:
        item["description"] = extension.description
    versions = {"href": f"{request.origin}/extensions/{extension.id}/versions"}
    item["_links"] = {"iTwin": _itwin_link(request, extension), "versions": versions}
    return item


def list_extensions(request: Request) -> Response:
    """Public extensions, or the private ones of an account."""
    invalid = _EXTENSION.invalid_request("Cannot retrieve extensions.", "InvalidParameter")
    itwin_id, search = request.get("iTwinId"), (request.get("search") or "").lower()
    studio = read_flag(request.get("isITwinStudioApp"))
    if studio is None:
        invalid("isITwinStudioApp", "isITwinStudioApp must be true or false.")
    extensions = request.state.extensions.values()
    if ("iTwinId", "") in request.query or itwin_id is not None:
        if itwin_id is None or not is_guid(itwin_id):
            invalid("iTwinId", _NO_ITWIN)
        itwin = request.state.itwins.get(itwin_id)
        if itwin is None:
            message = "Requested Extensions are not available."
            refuse(404, "ExtensionsNotFound", message, "iTwinId")
        owner = itwin["iTwinAccountId"]
        found = [item for item in extensions if item.itwin_id == owner and not item.public]
    else:
        found = [item for item in extensions if item.public]
    found = [item for item in found if search in item.name.lower() and (item.studio or not studio)]
    return _EXTENSION.page(request, found, partial(_render, request), invalid)


def create_extension(request: Request) -> Response:
    """Add a private extension to an account."""
    invalid = _EXTENSION.invalid_request("Cannot create extension.")
    body = read_body(request, invalid)
    name, itwin_id = body.get("name"), body.get("iTwinId")
    description = optional_property(body, "description", str, invalid)
    if not isinstance(name, str) or not name.strip():
        invalid("name", "A name is required.")
    if not isinstance(itwin_id, str) or not is_guid(itwin_id):
        invalid("iTwinId", "The value is missing or not a valid GUID.")
    itwin = request.state.itwins.get(itwin_id)
    if itwin is None:
        refuse(404, "iTwinNotFound", "Requested iTwin is not available.", "iTwinId")
    if itwin["class"] != "Account":
        invalid("iTwinId", "The iTwin must be of the class Account.")
    extensions = request.state.extensions
    if any(
        item.name == name and item.itwin_id == itwin["id"] and not item.public
        for item in extensions.values()
    ):
        refuse(409, "ExtensionExists", "The iTwin already has an extension of this name.")
    id = seed.guid(request.state.size.seed, "created", itwin["id"], name, len(extensions))
    extensions[id] = Extension(id, name, description, itwin["id"])
    item: JSON = {"id": id, "name": name, "iTwinId": itwin["id"]}
    if description is not None:
        item["description"] = description
    return _EXTENSION.one(item, status=201)


def delete_extension(request: Request) -> Response:
    """Remove an extension with all its versions."""
    id = request.params["extension_id"]
    if not is_guid(id):
        _EXTENSION.invalid_request("Cannot delete extension.")(
            "extensionId", "The value is not a valid GUID."
        )
    if request.state.extensions.pop(id, None) is None:
        message = "Requested extension is not available."
        refuse(404, "ExtensionNotFound", message, "extensionId")
    return Response(status=204)


def _find(request: Request) -> Extension:
    id = request.params["extension_id"]
    if not is_guid(id):
        invalid = _EXTENSION.invalid_request("Cannot retrieve extension.", "InvalidParameter")
        invalid("extensionId", _NO_ID)
    return request.state.extensions.get(id) or _EXTENSION.not_found("extensionId")


def _render_version(extension: Extension, version: Version) -> JSON:
    item: JSON = {"extension": {"name": extension.name}, "number": version.number}
    if extension.description is not None:
        item["extension"]["description"] = extension.description
    item["status"] = version.status
    if version.message is not None:
        item["statusMessage"] = version.message
    item["deprecated"] = version.deprecated
    item["lastUpdateTime"], item["creationTime"] = version.updated, version.created
    return item


def _version_links(request: Request, extension: Extension, version: Version) -> JSON:
    number = version.number.replace("+", "%2B")
    url = f"{request.origin}/extensions/{extension.id}/versions/{number}"
    return {"iTwin": _itwin_link(request, extension), "self": {"href": url}}


def list_versions(request: Request) -> Response:
    """The versions of an extension; deprecated ones only when asked for."""
    extension = _find(request)
    invalid = _VERSION.invalid_request("Cannot retrieve extension.", "InvalidParameter")
    deprecated = read_flag(request.get("includeDeprecated"))
    if deprecated is None:
        invalid("includeDeprecated", "includeDeprecated must be true or false.")
    found = [item for item in extension.versions.values() if deprecated or not item.deprecated]

    # No page shows a whole item of this list; the fields are those of a single version.
    def render(version: Version) -> JSON:
        links = _version_links(request, extension, version)
        return {"_links": links, **_render_version(extension, version)}

    return _VERSION.page(request, found, render, invalid)


def get_version(request: Request) -> Response:
    """One version with its files, each behind a signed address."""
    extension = _find(request)
    version = _VERSION.find(extension.versions, request.params["number"])
    item = _render_version(extension, version)
    item["files"] = [
        {
            **file_json(request, extension, version, name),
            "relativePath": name,
            "isMain": name == version.main,
        }
        for name in version.files
    ]
    if version.files:
        item["archiveFile"] = file_json(request, extension, version, None)
    return Response(json={"_links": _version_links(request, extension, version), "version": item})
