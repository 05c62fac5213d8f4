"""The Extensions API answers as its pages describe it."""

from typing import Final

from itwin_async.emulator import _seed
from itwin_async.emulator._answers import (
    Answer,
    detail,
    is_guid,
    read_flag,
    read_object,
    refuse,
)
from itwin_async.emulator._call import Call
from itwin_async.emulator._extension_data import Extension, Version
from itwin_async.emulator._paging import links, refusal, window
from itwin_async.emulator._seed import JSON

_INVALID: Final = "InvalidExtensionsRequest"
_NO_ITWIN: Final = (
    "A valid iTwinId was not specified in the query. The value is missing or not a valid GUID."
)
_NO_ID: Final = _NO_ITWIN.replace("iTwinId", "extensionId")


def _itwin_link(call: Call, extension: Extension) -> JSON:
    return {"href": f"{call.origin}/iTwins/{extension.itwin_id}"}


def list_extensions(call: Call) -> Answer:
    """Public extensions, or the private ones of an account."""
    wrong = refusal(_INVALID, "Cannot retrieve extensions.", "InvalidParameter")
    itwin_id, search = call.get("iTwinId"), (call.get("search") or "").lower()
    studio = read_flag(call.get("isITwinStudioApp"))
    if studio is None:
        wrong("isITwinStudioApp", "isITwinStudioApp must be true or false.")
    found = call.world.extensions.by_id.values()
    if ("iTwinId", "") in call.query or itwin_id is not None:
        if itwin_id is None or not is_guid(itwin_id):
            wrong("iTwinId", _NO_ITWIN)
        itwin = call.world.itwin(itwin_id)
        if itwin is None:
            message = "Requested Extensions are not available."
            refuse(404, "ExtensionsNotFound", message, "iTwinId")
        owner = itwin["iTwinAccountId"]
        shown = [item for item in found if item.itwin_id == owner and not item.public]
    else:
        shown = [item for item in found if item.public]
    shown = [item for item in shown if search in item.name.lower() and (item.studio or not studio)]
    part = window(call, wrong)
    items: list[JSON] = []
    for extension in shown[part.slice]:
        item: JSON = {"id": extension.id, "name": extension.name}
        if extension.description is not None:
            item["description"] = extension.description
        versions = {"href": f"{call.origin}/extensions/{extension.id}/versions"}
        item["_links"] = {"iTwin": _itwin_link(call, extension), "versions": versions}
        items.append(item)
    return Answer(
        data={"extensions": items, "_links": links(call, part, len(shown), style="extensions")}
    )


def create_extension(call: Call) -> Answer:
    """A new private extension of an account."""
    cannot = "Cannot create extension."
    body = read_object(call.body)
    if body is None:
        refuse(422, _INVALID, cannot, None, detail("InvalidValue", None, "Not a JSON object."))
    name, itwin_id, about = body.get("name"), body.get("iTwinId"), body.get("description")
    if not isinstance(name, str) or not name.strip():
        refuse(422, _INVALID, cannot, None, detail("InvalidValue", "name", "A name is required."))
    if not isinstance(itwin_id, str) or not is_guid(itwin_id):
        what = detail("InvalidValue", "iTwinId", "The value is missing or not a valid GUID.")
        refuse(422, _INVALID, cannot, None, what)
    if about is not None and not isinstance(about, str):
        what = detail("InvalidValue", "description", "A description must be a string.")
        refuse(422, _INVALID, cannot, None, what)
    itwin = call.world.itwin(itwin_id)
    if itwin is None:
        refuse(404, "iTwinNotFound", "Requested iTwin is not available.", "iTwinId")
    if itwin["class"] != "Account":
        what = detail("InvalidValue", "iTwinId", "The iTwin must be of the class Account.")
        refuse(422, _INVALID, cannot, None, what)
    known = call.world.extensions.by_id
    if any(
        it.name == name and it.itwin_id == itwin["id"] and not it.public for it in known.values()
    ):
        refuse(409, "ExtensionExists", "The iTwin already has an extension of this name.")
    id = _seed.guid(call.world.size.seed, "created", itwin["id"], name, len(known))
    known[id] = Extension(id, name, about, itwin["id"])
    item: JSON = {"id": id, "name": name, "iTwinId": itwin["id"]}
    if about is not None:
        item["description"] = about
    return Answer(status=201, data={"extension": item})


def delete_extension(call: Call) -> Answer:
    """Removes an extension with all its versions."""
    id = call.params["extension_id"].lower()
    if not is_guid(id):
        what = detail("InvalidValue", "extensionId", "The value is not a valid GUID.")
        refuse(422, _INVALID, "Cannot delete extension.", None, what)
    if call.world.extensions.by_id.pop(id, None) is None:
        message = "Requested extension is not available."
        refuse(404, "ExtensionNotFound", message, "extensionId")
    return Answer(status=204)


def _find(call: Call) -> Extension:
    id = call.params["extension_id"].lower()
    if not is_guid(id):
        what = detail("InvalidParameter", "extensionId", _NO_ID)
        refuse(422, _INVALID, "Cannot retrieve extension.", None, what)
    found = call.world.extensions.by_id.get(id)
    if found is None:
        message = "Requested extension is not available."
        refuse(404, "ExtensionsNotFound", message, "extensionId")
    return found


def _version_json(extension: Extension, version: Version) -> JSON:
    item: JSON = {"extension": {"name": extension.name}, "number": version.number}
    if extension.description is not None:
        item["extension"]["description"] = extension.description
    item["status"] = version.status
    if version.message is not None:
        item["statusMessage"] = version.message
    item["deprecated"] = version.deprecated
    item["lastUpdateTime"], item["creationTime"] = version.updated, version.created
    return item


def _version_links(call: Call, extension: Extension, version: Version) -> JSON:
    number = version.number.replace("+", "%2B")
    url = f"{call.origin}/extensions/{extension.id}/versions/{number}"
    return {"iTwin": _itwin_link(call, extension), "self": {"href": url}}


def list_versions(call: Call) -> Answer:
    """The versions of an extension; deprecated ones only when asked for."""
    extension = _find(call)
    wrong = refusal(_INVALID, "Cannot retrieve extension.", "InvalidParameter")
    deprecated = read_flag(call.get("includeDeprecated"))
    if deprecated is None:
        wrong("includeDeprecated", "includeDeprecated must be true or false.")
    versions = call.world.extensions.versions(extension).values()
    shown = [item for item in versions if deprecated or not item.deprecated]
    part = window(call, wrong)
    # No page shows a whole item of this list; the fields are those of a single version.
    items = [
        {"_links": _version_links(call, extension, version), **_version_json(extension, version)}
        for version in shown[part.slice]
    ]
    found = links(call, part, len(shown), style="extensions")
    return Answer(data={"_links": found, "versions": items})


def get_version(call: Call) -> Answer:
    """One version with its files, each behind a signed address."""
    extension = _find(call)
    version = call.world.extensions.versions(extension).get(call.params["number"])
    if version is None:
        # The page has no code for this; the one of update-version is used.
        refuse(404, "VersionNotFound", "Requested version is not available.")
    item = _version_json(extension, version)
    item["files"] = [
        {
            **call.blobs.file_json(call.origin, extension.id, version.number, name),
            "relativePath": name,
            "isMain": name == version.main,
        }
        for name in version.files
    ]
    if version.files:
        archive = call.blobs.file_json(call.origin, extension.id, version.number, None)
        item["archiveFile"] = archive
    return Answer(data={"_links": _version_links(call, extension, version), "version": item})
