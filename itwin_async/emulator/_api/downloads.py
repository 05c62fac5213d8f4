"""The files of extensions, behind signed addresses of the storage."""

from urllib.parse import quote

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.storage import check_signature, serve_file, storage_error
from itwin_async.emulator._api.url_signing import READ
from itwin_async.emulator._response import Response
from itwin_async.emulator._state.extensions import Extension, Version, sha256
from itwin_async.emulator._state.seed import JSON
from itwin_async.emulator._state.storage import StoredFile


def file_json(request: Request, extension: Extension, version: Version, name: str | None) -> JSON:
    """What the platform says of one file; without a name, of the whole archive."""
    content = _content(version, name) or b""
    where = "archive.zip" if name is None else f"files/{quote(name)}"
    path = f"/blob/{extension.id}/{quote(version.number)}/{where}"
    url, expires = request.signer.sign(path, READ)
    return {
        "downloadUrl": f"{request.origin}{url}",
        "downloadUrlExpiresAt": expires,
        "checksum": {"sha256": sha256(content)},
    }


def _content(version: Version, name: str | None) -> bytes | None:
    return version.archive if name is None else version.files.get(name)


def download(request: Request) -> Response:
    """A file of a version."""
    return _download(request, request.params["name"])


def download_archive(request: Request) -> Response:
    """All files of a version as a zip archive."""
    return _download(request, None)


def _download(request: Request, name: str | None) -> Response:
    if problem := check_signature(request, READ):
        return problem
    extension = request.state.extensions.get(request.params["extension_id"])
    version = extension.versions.get(request.params["number"]) if extension else None
    content = _content(version, name) if version else None
    if content is None:
        return storage_error(404, "BlobNotFound")
    return serve_file(StoredFile(name or "", len(content), content), request.headers)
