"""The file storage: signed addresses, which need no token and refuse it."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, quote

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.url_signing import READ, WRITE
from itwin_async.emulator._response import Response
from itwin_async.emulator._state.seed import JSON
from itwin_async.emulator._state.storage import StorageFullError, StoredFile

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_ERROR: Final = (
    '<?xml version="1.0" encoding="utf-8"?>'
    "<Error><Code>{0}</Code><Message>The storage refuses the request.</Message></Error>"
)
_ACCOUNT: Final = "/storage"


def _link(request: Request, container: str, name: str, permission: str) -> JSON:
    path = f"{_ACCOUNT}/{quote(container)}/{quote(name)}"
    url, _ = request.signer.sign(path, permission)
    return {"href": f"{request.origin}{url}", "storageType": request.signer.storage_type}


def download_link(request: Request, container: str, name: str, size: int) -> JSON | None:
    """The signed link to a file, made up in this size where nobody uploaded it.

    None for a caller without the permission to read files.
    """
    if not request.user.can_download:
        return None
    request.state.storage.make_up(container, name, size)
    return _link(request, container, name, READ)


def upload_link(request: Request, container: str, name: str) -> JSON:
    """The signed link to which a file is sent."""
    return _link(request, container, name, WRITE)


def directory_access(request: Request, container: str, name: str) -> JSON:
    """What opens a file block by block."""
    path = f"{_ACCOUNT}/{quote(container)}/{quote(name)}"
    token = request.signer.sign(path, READ)[0].partition("?")[2]
    storage, key = request.signer.storage_type, "sasToken"
    if storage == "google":
        key = "authorization"
    return {
        "baseUrl": f"{request.origin}{_ACCOUNT}",
        "storage": "storage",
        "baseDirectory": f"{container}/{name}",
        "storageType": storage,
        storage: {key: token},
    }


def download(request: Request) -> Response:
    """A file of the storage."""
    if problem := check_signature(request, READ):
        return problem
    params = request.params
    file = request.state.storage.find(params["container"], params["name"])
    return storage_error(404, "BlobNotFound") if file is None else serve_file(file, request.headers)


def upload(request: Request) -> Response:
    """Store a file, whole or in blocks, as Azure's client and `curl` send it."""
    if problem := check_signature(request, WRITE):
        return problem
    try:
        return _store(request)
    except StorageFullError:
        return storage_error(413, "RequestBodyTooLarge")


def _store(request: Request) -> Response:
    query = {name: values[0] for name, values in parse_qs(request.raw_query).items()}
    place = request.params["container"], request.params["name"]
    storage, body, comp = request.state.storage, request.body, query.get("comp")
    if comp == "block":
        if "blockid" not in query:
            return storage_error(400, "MissingRequiredQueryParameter")
        storage.put_block(*place, query["blockid"], body)
        return Response(status=201)
    if comp == "blocklist":
        file = storage.commit(*place, _read_block_list(body))
        if file is None:
            return storage_error(400, "InvalidBlockList")
    elif comp is not None:
        return storage_error(400, "InvalidQueryParameterValue")
    elif request.signer.storage_type == "azure" and "x-ms-blob-type" not in request.headers:
        return storage_error(400, "MissingRequiredHeader")
    else:
        file = storage.put(*place, body)
    status = 201 if request.signer.storage_type == "azure" else 200
    return Response(status=status, headers={"ETag": file.etag})


def _read_block_list(body: bytes) -> list[str]:
    try:
        blocks = list(ET.fromstring(body))  # noqa: S314 - the client is on the same machine
    except ET.ParseError:
        return [""]  # the id of no block
    return [(block.text or "").strip() for block in blocks]


def check_signature(request: Request, permission: str) -> Response | None:
    """The refusal of an address that is not signed for this, or no longer."""
    if "Authorization" in request.headers:
        # A storage refuses a signed address with a second kind of authorization.
        return storage_error(400, "InvalidAuthenticationInfo")
    if not request.signer.is_valid(request.path, request.raw_query, permission):
        return storage_error(403, "AuthenticationFailed")
    return None


def storage_error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as a storage sends it."""
    return Response(
        status=status,
        raw=_ERROR.format(code).encode(),
        content_type="application/xml",
        headers={"x-ms-error-code": code, **(headers or {})},
    )


def serve_file(file: StoredFile, sent: Mapping[str, str]) -> Response:
    """The whole file, or the one range of it that was asked for (RFC 9110, sections 13 and 14)."""
    etag, size = file.etag, file.size
    headers = {"Accept-Ranges": "bytes", "ETag": etag, "x-ms-blob-type": "BlockBlob"}
    if sent.get("If-Match", etag) not in {etag, "*"}:
        return storage_error(412, "ConditionNotMet", headers)
    if sent.get("If-None-Match") in {etag, "*"}:
        return Response(status=304, headers=headers)
    start, stop = 0, size
    status = 200
    # Azure's own client asks in a header of its own.
    match = _RANGE.fullmatch(sent.get("x-ms-range") or sent.get("Range", ""))
    first, last = match.groups() if match else ("", "")
    is_range = (first or last) and not (first and last and int(last) < int(first))
    if is_range and sent.get("If-Range", etag) == etag:
        start = int(first) if first else max(0, size - int(last))
        stop = min(int(last) + 1, size) if first and last else size
        if start >= stop:
            return storage_error(416, "InvalidRange", {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        status = 206
    return Response(
        status=status,
        chunks=lambda: file.read(start, stop),
        length=stop - start,
        content_type="application/octet-stream",
        headers=headers,
    )
