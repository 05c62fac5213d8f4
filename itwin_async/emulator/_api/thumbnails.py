"""The iModels API: thumbnails."""

import functools
import struct
import zlib
from typing import Final

from itwin_async.emulator._api.imodels import IMODEL, find_imodel
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._response import Response, refuse

_SIZES: Final = {"small": (400, 250), "large": (800, 500)}  # pixels
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_SIGNATURES: Final = {"image/png": _PNG, "image/jpeg": b"\xff\xd8\xff"}


def get_thumbnail(request: Request) -> Response:
    """The thumbnail that was uploaded, as it is, else one of the wanted size in one colour."""
    imodel = find_imodel(request)
    size = request.get("size") or "small"
    if size not in _SIZES:
        invalid = IMODEL.invalid_request("Cannot get iModel Thumbnail.")
        invalid("size", f"'{size}' is not a valid 'size' value.")
    media_type, image = imodel.thumbnail or ("image/png", _draw(*_SIZES[size], imodel.number % 256))
    return Response(raw=image, content_type=media_type)


def upload_thumbnail(request: Request) -> Response:
    """Replace the thumbnail."""
    imodel = find_imodel(request)
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    signature = _SIGNATURES.get(media_type)
    if signature is None or not request.body.startswith(signature):
        # No page says which status this code comes with.
        refuse(422, "InvalidThumbnailFormat", "The Thumbnail must be a PNG or a JPEG.")
    imodel.thumbnail = media_type, request.body
    return Response()


@functools.lru_cache(maxsize=16)
def _draw(width: int, height: int, shade: int) -> bytes:
    """A PNG of one shade of grey."""
    rows = (b"\0" + bytes([shade]) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return _PNG + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
