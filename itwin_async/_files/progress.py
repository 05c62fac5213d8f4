"""How far a download or an upload is, as ``on_progress`` is told."""

from collections.abc import Callable
from typing import TypeAlias

from itwin_async._core.dataclass_fields import DataclassStruct


class DownloadProgress(DataclassStruct, frozen=True):
    """How far a download is: ``files_done`` of the ``files`` are complete.

    ``bytes_done`` are on the disk, of all files; they become fewer where a file begins again.
    ``bytes_total`` is None until the size of each file is known.
    """

    files: int
    files_done: int
    bytes_done: int
    bytes_total: int | None


OnDownloadProgress: TypeAlias = Callable[[DownloadProgress], object]


class UploadProgress(DataclassStruct, frozen=True):
    """How far an upload is: ``bytes_done`` of ``bytes_total`` were sent.

    They become fewer where a request has to be sent again.
    """

    bytes_done: int
    bytes_total: int


OnUploadProgress: TypeAlias = Callable[[UploadProgress], object]
