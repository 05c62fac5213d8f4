"""The destination: a directory of an fsspec file system, in which others may have files too.

Only files that carry the ingest's own run id are removed or replaced, and the manifest if its
checksum shows that it is one. Everything here blocks, and is called from threads.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast
from uuid import uuid4

import fsspec

from itwin_async._core.redaction import unsigned
from itwin_async._files.atomic import FileDigest, digest_of, digest_of_path, sync_file
from itwin_async.distributed._manifest import (
    Batch,
    Manifest,
    NamedFile,
    Record,
    is_of_run,
    is_record,
    record_name,
)

_url_to_fs: Final = cast("Any", fsspec).core.url_to_fs


class Destination:
    """The files of one ingest. ``label`` is the destination as messages show it."""

    def __init__(self, root: str) -> None:
        self.root: Final = root.rstrip("/") or root
        self.label: Final = unsigned(self.root)
        self._fs: Any
        self._directory: str
        self._fs, self._directory = _url_to_fs(root)

    def _path(self, name: str) -> str:
        return f"{self._directory.rstrip('/')}/{name}"

    def _draft(self, run: str) -> str:
        """The path of a file that is written before it gets its name."""
        return self._path(f"new-{run}-{uuid4().hex}")

    def prepare(self) -> None:
        """Create the directory if it is missing. Raises `ValueError` if it is a file."""
        if self._fs.isfile(self._directory):
            raise ValueError(f"destination must be a directory, and {self.label} is a file")
        self._fs.makedirs(self._directory, exist_ok=True)

    # The manifest

    def read_manifest(self) -> Manifest | None:
        """The manifest of an earlier run, with the batches that it has added since.

        Raises `ValueError` if the file of that name is another one.
        """
        self._fs.invalidate_cache()
        if not self._fs.exists(self._path("manifest.json")):
            return None
        try:
            manifest = Manifest.decode(self._fs.cat_file(self._path("manifest.json")))
        except ValueError as error:
            raise ValueError(
                f"{self.label}/manifest.json is not what this version writes ({error}): "
                "choose another destination, or remove that file"
            ) from None
        records = [
            Record.decode(self._fs.cat_file(self._path(name)))
            for name in self.sizes()
            if is_record(manifest.run, name)
        ]
        added = {record.batch.key: record.batch for record in records if record is not None}
        manifest.batches = [added.get(batch.key, batch) for batch in manifest.batches]
        return manifest

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest atomically. It holds what was added, which is removed then."""
        self._replace(manifest.run, "manifest.json", manifest.encode())
        for name in self.sizes():
            if is_record(manifest.run, name):
                self.remove(name)

    def add_to_manifest(self, run: str, batch: Batch) -> None:
        """Add a batch that was run, as a small file: object stores cannot append to one."""
        self._replace(run, record_name(run, batch.key), Record(run, batch).encode())

    def _replace(self, run: str, name: str, data: bytes) -> None:
        draft = self._draft(run)
        with self._fs.open(draft, "wb") as file:
            file.write(data)
            sync_file(file)
        self._fs.mv(draft, self._path(name))

    # Parts

    def put(self, run: str, source: Path, name: str) -> FileDigest:
        """Store a file, which gets its name once it is complete, and read it back."""
        digest = digest_of_path(source)
        draft = self._draft(run)
        self._fs.put_file(str(source), draft)
        self._fs.mv(draft, self._path(name))
        if not self.holds(NamedFile(name, digest)):
            raise OSError(f"{self.label}/{name} does not hold what was written to it")
        return digest

    def remove(self, name: str) -> None:
        """Remove a file of this ingest, if it is there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def holds(self, file: NamedFile) -> bool:
        """Whether a file is there with the bytes that were stored."""
        self._fs.invalidate_cache()
        try:
            with self._fs.open(self._path(file.name), "rb") as found:
                return digest_of(found) == file.digest
        except FileNotFoundError:
            return False

    def sizes(self) -> dict[str, int]:
        """The size of each file in it, in bytes."""
        self._fs.invalidate_cache()
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: entry["size"]
            for entry in self._fs.ls(self._directory, detail=True)
            if entry["type"] != "directory"
        }

    def remove_unnamed(self, manifest: Manifest) -> set[str]:
        """Remove this ingest's files that its manifest does not name. Returns others' files."""
        named = {file.name for batch in manifest.batches for file in batch.files(manifest.run)}
        rest = set(self.sizes()) - named - {"manifest.json"}
        ours = {name for name in rest if is_of_run(manifest.run, name)}
        for name in ours:
            self.remove(name)
        return rest - ours

    # Whether client and workers mean the same place

    def write_probe(self, run: str) -> str:
        """Write a small file; its name, which is its content as well."""
        name = f"new-{run}-probe-{uuid4().hex}"
        self._fs.pipe_file(self._path(name), name.encode())
        return name

    def remove_probe(self, name: str) -> bool:
        """Remove such a file; whether it was here."""
        self._fs.invalidate_cache()
        try:
            found: object = self._fs.cat_file(self._path(name))
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return False
        return found == name.encode()
