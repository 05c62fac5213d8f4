"""What a test changes in the data of the emulated platform."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from itwin_async.emulator import _arguments
from itwin_async.emulator._state.extensions import READY
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import LARGEST_PAYLOAD
from itwin_async.emulator._state.state import State


def _encode(data: object) -> str:
    """Extended data as the platform has it: base64 of JSON."""
    try:
        encoded = msgspec.json.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        raise TypeError(f"data must be what JSON holds: {problem}") from None
    if len(encoded) > LARGEST_PAYLOAD:
        limit = f"at most {LARGEST_PAYLOAD:,} bytes of JSON"
        raise ValueError(f"data must be {limit}, not {len(encoded):,}")
    return base64.b64encode(encoded).decode("ascii")


class PlatformChanges:
    """Changes of the data, as other people's programs make them. They take effect at once."""

    _state: State

    @property
    def now(self) -> datetime:
        """The time of the platform's clock, which dates pushes and the ``Date`` of responses."""
        return self._state.clock.now()

    def advance(self, seconds: float) -> None:
        """Move the platform's clock forward; signed addresses expire by it, tokens do not."""
        _arguments.check_number("seconds", seconds)
        self._state.clock.advance(seconds)

    def push_changeset(
        self,
        imodel_id: str | UUID,
        data: object = None,
        *,
        description: str | None = None,
        file: bytes | None = None,
        file_size: int | None = None,
        containing_changes: int = 0,
        task_id: str | None = None,
        changed_files: Sequence[str] | None = None,
        group_id: str | UUID | None = None,
    ) -> int:
        """Push one more changeset, and give its index.

        It is dated now, and so is the iModel. ``data`` is its extended data, which JSON can hold;
        None for none. ``file`` is its file, or ``file_size`` how many bytes to make up.
        ``task_id`` and ``changed_files`` are its synchronization info.

        Raises `ValueError` for an unknown iModel.

        Example::

            index = emulator.push_changeset(imodel_id, {"data": {"changedFiles": ["A.dgn"]}})
        """
        imodel = self._find_imodel(imodel_id)
        for name, text in (("description", description), ("task_id", task_id)):
            if text is not None:
                _arguments.check_str(name, text, may_be_empty=True)
        _arguments.check_int("file_size", file_size, 1, optional=True)
        _arguments.check_int("containing_changes", containing_changes, 0)
        if file is not None:
            _arguments.check_bytes("file", file)
            if file_size is not None:
                raise ValueError("file and file_size exclude each other")
        files = (
            None
            if changed_files is None
            else _arguments.check_texts("changed_files", changed_files)
        )
        encoded = None if data is None else _encode(data)
        fields: dict[str, Any] = {
            "description": description,
            "file": file,
            "containing_changes": containing_changes,
            "group_id": None if group_id is None else _arguments.id_text("group_id", group_id),
        }
        if file_size is not None:
            fields["file_size"] = file_size
        if task_id is not None or files is not None:
            fields["synchronization_info"] = {"taskId": task_id, "changedFiles": files}
        index = self._state.push_changeset(imodel, **fields).index
        if encoded is not None:
            imodel.write_data(index, encoded)
        return index

    def store_extended_data(
        self, imodel_id: str | UUID, changeset: str | int, data: object
    ) -> None:
        """Give a changeset, by id or index, its extended data; replace what it has.

        Raises `ValueError` for an unknown iModel or changeset.
        """
        imodel = self._find_imodel(imodel_id)
        imodel.write_data(_find_changeset(imodel, changeset), _encode(data))

    def changeset_id(self, imodel_id: str | UUID, index: int) -> str:
        """The id of a changeset. Raises `ValueError` for an unknown iModel or changeset."""
        imodel = self._find_imodel(imodel_id)
        return imodel.changeset_id(_find_changeset(imodel, index))

    def add_imodel(
        self,
        itwin_id: str | UUID | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> str:
        """Create an iModel without changesets, and give its id.

        It belongs to the first iTwin unless told otherwise. Raises `ValueError` for an unknown one.
        """
        itwins = self._state.itwins
        wanted = _arguments.id_text(
            "itwin_id", next(iter(itwins)) if itwin_id is None else itwin_id
        )
        if wanted not in itwins:
            raise ValueError(f"the emulator has no iTwin {wanted!r}")
        for argument, text in (("name", name), ("description", description)):
            if text is not None:
                _arguments.check_str(argument, text)
        name = f"Addition {len(self._state.imodels)}" if name is None else name
        return self._state.add_imodel(itwins[wanted]["id"], name, description).id

    def delete_imodel(self, imodel_id: str | UUID) -> None:
        """Delete an iModel with all that belongs to it: it is gone from lists, and 404.

        Raises `ValueError` for an unknown iModel.
        """
        self._state.delete_imodel(self._find_imodel(imodel_id))

    def publish(
        self,
        extension_id: str | UUID,
        number: str,
        files: Mapping[str, bytes] | None = None,
        *,
        status: str = READY,
        status_message: str | None = None,
    ) -> None:
        """Give a version this state and these files, the first of them main; add it if it is new.

        Raises `ValueError` for an unknown extension.
        """
        id = _arguments.id_text("extension_id", extension_id)
        extension = self._state.extensions.get(id)
        if extension is None:
            raise ValueError(f"the emulator has no extension {id!r}")
        _arguments.check_str("number", number)
        _arguments.check_files(files)
        _arguments.check_str("status", status, may_be_empty=True)
        if status_message is not None:
            _arguments.check_str("status_message", status_message, may_be_empty=True)
        version = extension.publish(number, files)
        version.status, version.message = status, status_message

    def _find_imodel(self, imodel_id: str | UUID) -> IModel:
        id = _arguments.id_text("imodel_id", imodel_id)
        imodel = self._state.imodels.get(id)
        if imodel is None:
            raise ValueError(f"the emulator has no iModel {id!r}")
        return imodel


def _find_changeset(imodel: IModel, changeset: object) -> int:
    if not isinstance(changeset, str | int) or isinstance(changeset, bool):
        kind = _arguments.kind_of(changeset)
        raise TypeError(f"changeset must be an id or an index, not {kind}")
    index = imodel.find_changeset(str(changeset))
    if index is None:
        raise ValueError(f"the iModel has no changeset {changeset!r}")
    return index
