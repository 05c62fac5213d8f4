"""The destination: a directory of an fsspec file system, in which others may have files too.

Only files that carry the ingest's own run id are ever removed or replaced, and the manifest where
its digest shows that it is one. Everything here blocks, and is called from threads.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from uuid import uuid4

import fsspec

from itwin_async._core.redaction import unsigned
from itwin_async.distributed._manifest import Manifest, NamedFile, StoredFile, is_of_run

_url_to_fs: Final = cast("Any", fsspec).core.url_to_fs
_PIECE: Final = 8 << 20  # bytes that are read at a time


class Destination:
    """The files of one ingest. ``shown`` is the destination as messages name it."""

    def __init__(self, root: str) -> None:
        self.root: Final = root.rstrip("/") or root
        self.shown: Final = unsigned(self.root)
        self._fs: Any
        self._home: str
        self._fs, self._home = _url_to_fs(root)

    def _path(self, name: str) -> str:
        return f"{self._home.rstrip('/')}/{name}"

    def prepare(self) -> None:
        """Make the directory, if it is not there. Raises `ValueError` if it is a file."""
        if self._fs.isfile(self._home):
            raise ValueError(f"destination must be a directory, and {self.shown} is a file")
        self._fs.makedirs(self._home, exist_ok=True)

    # The manifest

    def read_manifest(self) -> Manifest | None:
        """The manifest of an earlier run; `ValueError` if it is something else of that name."""
        self._fs.invalidate_cache()
        if not self._fs.exists(self._path("manifest.json")):
            return None
        try:
            return Manifest.decode(self._fs.cat_file(self._path("manifest.json")))
        except ValueError as error:
            raise ValueError(
                f"{self.shown}/manifest.json is not what this version writes ({error}): "
                "choose another destination, or remove that file"
            ) from None

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest by another one, at once."""
        draft = self._path(f"new-{manifest.run}-{uuid4().hex}")
        with self._fs.open(draft, "wb") as file:
            file.write(manifest.encode())
            _sync(file)
        self._fs.mv(draft, self._path("manifest.json"))

    # Parts

    def put(self, run: str, source: Path, name: str) -> StoredFile:
        """Store a file, which gets its name once it is whole, and read it back."""
        with source.open("rb") as file:
            stored = _digest(file)
        draft = self._path(f"new-{run}-{uuid4().hex}")
        self._fs.put_file(str(source), draft)
        self._fs.mv(draft, self._path(name))
        if not self.holds(NamedFile(name, stored)):
            raise OSError(f"{self.shown}/{name} does not hold what was written to it")
        return stored

    def remove(self, name: str) -> None:
        """Remove a file of ours, if it is there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def holds(self, file: NamedFile) -> bool:
        """Whether a file's bytes are those that were stored."""
        self._fs.invalidate_cache()
        try:
            with self._fs.open(self._path(file.name), "rb") as found:
                return _digest(found) == file.stored
        except FileNotFoundError:
            return False

    def sizes(self) -> dict[str, int]:
        """The files that there are, each with its size in bytes."""
        self._fs.invalidate_cache()
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: entry["size"]
            for entry in self._fs.ls(self._home, detail=True)
            if entry["type"] != "directory"
        }

    def sweep(self, manifest: Manifest) -> set[str]:
        """Remove files of ours that the manifest does not name. Returns the names of others'."""
        named = {file.name for batch in manifest.batches for file in batch.files(manifest.run)}
        there = set(self.sizes()) - named - {"manifest.json"}
        ours = {name for name in there if is_of_run(manifest.run, name)}
        for name in ours:
            self.remove(name)
        return there - ours

    # Whether client and workers mean the same place

    def write_probe(self, run: str) -> str:
        """Write a small file; its name, which is its content as well."""
        name = f"new-{run}-probe-{uuid4().hex}"
        self._fs.pipe_file(self._path(name), name.encode())
        return name

    def take_probe(self, name: str) -> bool:
        """Whether such a file is here; it is removed."""
        self._fs.invalidate_cache()
        try:
            found: object = self._fs.cat_file(self._path(name))
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return False
        return found == name.encode()


def _digest(file: BinaryIO) -> StoredFile:
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return StoredFile(size, digest.hexdigest())


def _sync(file: Any) -> None:
    """What gets its final name is on the disk, where there is one."""
    try:
        descriptor: int = file.fileno()
    except (AttributeError, OSError):  # a file system that is elsewhere
        return
    file.flush()
    os.fsync(descriptor)
