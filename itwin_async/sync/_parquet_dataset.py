"""The data set of Parquet files as a sink: a lock or a lease, and work in threads."""

import asyncio
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import unquote, urlsplit

import anyio

from itwin_async._aio.threads import in_thread
from itwin_async._core.redaction import unsigned
from itwin_async._core.secrets import SecretDict, SecretStr
from itwin_async._core.validation import check_no_tilde
from itwin_async._rows.types import AS_IT_CAME
from itwin_async.sync._sink import Row
from itwin_async.sync._storage import LocalStorage, Storage

_logger = logging.getLogger("itwin_async")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
_POLL_SECONDS: Final = 0.5
_RENEW_SECONDS: Final = 4.0


class CommittedParts(Protocol):
    """What was committed to a storage, and the commit of further rows. It blocks."""

    def load(self) -> None:
        """Find what was committed."""
        ...

    def checkpoint(self) -> str | None:
        """What was committed, as a checkpoint."""
        ...

    def write(self, rows: Sequence[Row], checkpoint: str) -> int | None:
        """Commit rows of one iModel."""
        ...

    def save_hint(self) -> None:
        """Store the whole checkpoint."""
        ...


class ParquetDataset:
    """A directory of Parquet files, to which `sync_extended_data` adds what is new.

    Columns are ``imodel_id``, ``changeset_index``, ``changeset_id`` and ``data``: a nested column
    where the payloads have a type, else JSON text. Only committed files lie in the directory, so a
    plain glob of any reader (``path/*.parquet``) is right at any moment: each entry is there once
    or not yet, also while a sync runs or after it was killed. All else lies beside it, in
    ``<path>.sync``: entries with bad payloads in ``<imodel>.bad.jsonl``, a lock, and a draft.

    A file has entries of one iModel, and its footer what was read of that iModel. A sync adds a
    file or replaces a small one by a longer one, by one rename. One sync at a time: a second one
    raises `RuntimeError`. On another file system than this machine's, a sync that was killed keeps
    others waiting for some fifteen seconds.

    Where a type has new fields, the files that are there are rewritten with them, one by one;
    until that is done, readers see files with and without. A field that has another type than
    before, or JSON text that becomes columns, is a `ValueError`.

    Args:
        path: a directory, made where it is missing; or a URL of fsspec, such as
            ``s3://bucket/changes``, with the extra ``remote`` and the package for that store.
        data_type: the type of payloads, where they are not structs or dataclasses, which tell it.
        storage_options: for the file system of a URL, as fsspec takes them.

    Entering it raises `ValueError` for a directory with files of others, `RuntimeError` while
    another sync writes to it, `OSError`, and what the file system raises. Needs the extra
    ``arrow``.

    Example::

        async with ITwinSession.from_env() as itwin:
            await sync_extended_data(itwin, ParquetDataset("changes"), itwin_id=itwin_id)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        data_type: Any = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        options = None if storage_options is None else SecretDict(storage_options)
        del storage_options  # secrets in frames: docs/adr/0008
        self._path = ""
        given: object = path
        if not isinstance(given, str | os.PathLike):
            raise TypeError(f"path must be a path or a URL, not {type(given).__name__}")
        text = SecretStr(os.fsdecode(path))
        del given, path  # a URL may have a password
        if not text or "\0" in text:
            raise ValueError("path must be the path of a directory, or a URL")
        self._is_remote = _URL.match(text) is not None and not text.startswith("file://")
        self._options: Final = options or SecretDict()
        if not self._is_remote:
            check_no_tilde("path", text)
        if options is not None and not self._is_remote:
            raise ValueError("storage_options are for URLs, and path is a directory")
        self._path = SecretStr(unquote(urlsplit(text).path)) if text.startswith("file://") else text
        self._make_dataset: Final = _dataset_type()
        self._data_type = data_type
        self._storage: Storage | None = None
        self._dataset: CommittedParts | None = None
        self._renewal: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"ParquetDataset({str(unsigned(self._path))!r})"

    def use_data_type(self, data_type: Any) -> None:
        """Say the type of payloads, where the constructor was given none; a sync does.

        Raises `ValueError` for another type than the constructor's, of which fields would be lost.
        """
        if self._data_type is None:
            self._data_type = data_type
        elif self._data_type not in AS_IT_CAME and data_type not in (
            None, *AS_IT_CAME, self._data_type
        ):  # fmt: skip
            raise ValueError(
                "data_type must be the same for the data set and for its sync, or given to one of "
                "them"
            )

    async def __aenter__(self) -> Self:
        if self._storage is not None:
            raise RuntimeError("this data set is open already: make one for each sync")
        data_type = None if self._data_type in AS_IT_CAME else self._data_type
        try:
            self._storage = storage = await in_thread(self._make_storage)
            while not await in_thread(storage.claim):  # noqa: ASYNC110 - of another process
                await anyio.sleep(_POLL_SECONDS)
            if self._is_remote:
                self._renewal = asyncio.create_task(self._renew(storage))
            dataset = self._make_dataset(storage, data_type)
            await in_thread(dataset.load)
            self._dataset = dataset
        except BaseException:
            await self._close(failed=True)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        await self._close(failed=kind is not None)

    async def checkpoint(self) -> str | None:
        """What was committed; None for a new data set."""
        return await in_thread(self._opened().checkpoint)

    async def write(self, rows: Sequence[Row], checkpoint: str, /) -> int | None:
        """Commit rows of one iModel and how far it was read with them; see `Sink.write`.

        A cancellation waits until that is done. Raises `RuntimeError` if another sync has taken
        over, `ValueError` for rows of a type that the files have not, and `OSError`.
        """
        return await in_thread(self._opened().write, rows, checkpoint)

    def _opened(self) -> CommittedParts:
        if self._dataset is None:
            raise RuntimeError("this data set is not open: use it inside 'async with'")
        return self._dataset

    def _make_storage(self) -> Storage:
        if not self._is_remote:
            return LocalStorage(Path(self._path))
        from itwin_async.sync._remote import RemoteStorage  # noqa: PLC0415 - an extra

        return RemoteStorage(SecretStr(self._path), self._options)

    async def _renew(self, storage: Storage) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await in_thread(storage.renew)
            except Exception as error:  # noqa: BLE001 - a later one may succeed; a commit looks
                _logger.warning("the lease of %r was not renewed: %s", self, type(error).__name__)

    async def _close(self, *, failed: bool) -> None:
        renewal, self._renewal = self._renewal, None
        storage, self._storage = self._storage, None
        dataset, self._dataset = self._dataset, None
        with anyio.CancelScope(shield=True):
            try:
                if renewal is not None:
                    renewal.cancel()
                    await asyncio.wait([renewal])
            finally:
                if storage is not None:
                    await in_thread(_finish, storage, dataset, failed)


def _dataset_type() -> Callable[[Storage, Any], CommittedParts]:
    try:
        from itwin_async.sync._dataset import Dataset  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ImportError("a data set needs pyarrow: pip install 'itwin-async[arrow]'") from None
    return Dataset


def _finish(storage: Storage, dataset: CommittedParts | None, failed: bool) -> None:  # noqa: FBT001
    try:
        try:
            if dataset is not None:
                dataset.save_hint()
        finally:
            storage.release()
    except Exception:
        if not failed:
            raise
        _logger.warning("a data set was not closed well", exc_info=True)
