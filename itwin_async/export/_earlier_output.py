"""The finished output of an earlier export, which an export with ``since`` adds to.

Everything here blocks, and is called from threads.
"""

import os
import shutil
from pathlib import Path
from typing import TypeVar

import msgspec

from itwin_async._files.atomic import FileDigest, digest_of_path, naming_errors
from itwin_async._rows.entries import BadRow
from itwin_async.export._journal import Checkpoint, ExportSpec, decode_record, difference

T = TypeVar("T")


def read_checkpoint(output: Path, checkpoint: Path, spec: ExportSpec) -> Checkpoint:
    """The checkpoint of an output; `ValueError` if this export cannot add to that output."""
    if not checkpoint.exists():
        raise ValueError(
            f"{output} cannot be added to without {checkpoint.name}, which its export left: "
            "choose another output, or export all without since"
        )
    found = decode_record(checkpoint.read_bytes(), Checkpoint, checkpoint)
    wanted = msgspec.structs.replace(spec, since=None)
    if msgspec.structs.replace(found.spec, since=None) != wanted:
        raise ValueError(
            f"{output} is not an export of this kind ({difference(found.spec, wanted)}): "
            "choose another output"
        )
    since, earlier = spec.since, found.spec.since
    if earlier is not None and since is not None and not _is_covered(since, earlier):
        raise ValueError(
            f"{output} holds only what came after {earlier}: nothing from after {since} can be "
            "added to it; export all without since"
        )
    return found


def _is_covered(since: int | str, earlier: int | str) -> bool:
    """Whether what comes after one comes after the other as well: dates of one form, or indexes."""
    if isinstance(since, int) or isinstance(earlier, int):
        return isinstance(since, int) and isinstance(earlier, int) and since >= earlier
    return since >= earlier


def keep_file(path: Path, kept: Path, expected: FileDigest, *, copy: bool) -> None:
    """Give a file a second name, or copy it; `ValueError` if it is not what its export left."""
    if path.is_file():
        if copy or not _link(path, kept):
            with naming_errors(kept):
                shutil.copyfile(path, kept)
        if digest_of_path(kept) == expected:
            return
    raise ValueError(
        f"{path} is not what its export left: choose another output, or export all without since"
    )


def _link(path: Path, name: Path) -> bool:
    try:
        os.link(path, name)
    except OSError:  # a file system without links
        return False
    return True


class _SpecVersion(msgspec.Struct):
    version: int


class _AnyCheckpoint(msgspec.Struct):
    """A checkpoint of this version, or of an earlier one that had a ``job`` for a ``spec``."""

    imodels: dict[str, msgspec.Raw]
    spec: _SpecVersion | None = None
    job: _SpecVersion | None = None


def is_bad_rows(path: Path) -> bool:
    """Whether a file holds bad rows of an export."""
    with path.open("rb") as file:
        return _decode(file.readline(), BadRow) is not None


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of an export, of any version."""
    found = _decode(path.read_bytes(), _AnyCheckpoint)
    return found is not None and (found.spec or found.job) is not None


def _decode(data: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
