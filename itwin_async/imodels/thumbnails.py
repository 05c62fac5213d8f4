"""Thumbnails of iModels."""

import base64
from dataclasses import dataclass, field
from types import NoneType
from typing import Final, Literal, cast

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.validation import Id, check_choice
from itwin_async._pagination.operation_group import OperationGroup

# The first bytes of each format that the platform takes.
_SIGNATURES: Final = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of an iModel: the bytes of the file, and its ``media_type``, such as image/png.

    A notebook shows it.
    """

    data: bytes = field(repr=False)
    media_type: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {self.media_type: base64.b64encode(self.data).decode()}


GET_THUMBNAIL: Final = Operation("GET", "/imodels/{imodel_id}/thumbnail", bytes, version="v2")
UPLOAD_THUMBNAIL: Final = Operation("PUT", "/imodels/{imodel_id}/thumbnail", NoneType, version="v2")


class ThumbnailOperations(OperationGroup):
    """Operations on thumbnails."""

    async def get_thumbnail(
        self, imodel_id: Id, *, size: Literal["small", "large"] = "small"
    ) -> Thumbnail:
        """The thumbnail of an iModel: 400 by 250 pixels, or 800 by 500 of the ``large`` one.

        Raises `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-thumbnail/

        Example::

            thumbnail = await itwin.imodels.get_thumbnail(imodel_id, size="large")
            Path("thumbnail.png").write_bytes(thumbnail.data)
        """
        check_choice("size", size, ("small", "large"), optional=False)
        request = GET_THUMBNAIL.request(imodel_id=imodel_id, query={"size": size})
        answer = await self._call_whole(request)
        content_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Thumbnail(answer.data, content_type or _media_type(answer.data) or "image/png")

    async def upload_thumbnail(self, imodel_id: Id, image: bytes) -> None:
        """Replace the thumbnail of an iModel by a PNG or a JPEG.

        Raises `ValueError` for bytes that are neither, and `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/upload-imodel-thumbnail/

        Example::

            await itwin.imodels.upload_thumbnail(imodel_id, Path("thumbnail.png").read_bytes())
        """
        if not isinstance(cast("object", image), bytes):
            raise TypeError(f"image must be bytes, not {type(image).__name__}")
        media_type = _media_type(image)
        if media_type is None:
            raise ValueError("image must be the bytes of a PNG or JPEG file")
        request = UPLOAD_THUMBNAIL.request(imodel_id=imodel_id)
        headers = {**request.headers, "Content-Type": media_type}
        await self._call(msgspec.structs.replace(request, headers=headers, body=image))


def _media_type(image: bytes) -> str | None:
    """The media type by the first bytes of a file."""
    return next((kind for kind, first in _SIGNATURES.items() if image.startswith(first)), None)
