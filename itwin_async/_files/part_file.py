"""The part of a file that has arrived so far. Everything here blocks."""

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from itwin_async._files.atomic import naming_errors, sync_directory, sync_file, update_digest

STRONG_TAG: Final = re.compile(r'"[\x21\x23-\x7e]{0,200}"')  # a weak entity tag proves no bytes


class PartFile:
    """The bytes of a file so far, their SHA-256, and the entity tag they belong to.

    With ``resume`` the entity tag lies beside the bytes, for a later process. Without ``hashed``
    there is no SHA-256.
    """

    def __init__(self, path: Path, *, resume: bool, hashed: bool = True) -> None:
        self.path = path
        self._tag_path = path.with_suffix(".etag")
        self.resume = resume
        self._hashed = hashed
        self._digest = hashlib.sha256()
        self.etag: str | None = None
        self.size: int = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes so far, hexadecimal."""
        return self._digest.hexdigest()

    def load(self) -> None:
        """Read what an earlier process left, if it left anything."""
        if not self.path.exists():
            return
        if self._hashed:
            with self.path.open("rb") as file:
                self.size += update_digest(self._digest, file)
        else:
            self.size = self.path.stat().st_size
        with suppress(FileNotFoundError):
            tag = self._tag_path.read_text("latin-1")
            self.etag = tag if STRONG_TAG.fullmatch(tag) else None  # a crash may leave anything

    def restart(self, etag: str | None = None) -> None:
        """Drop the bytes, and begin at the first one of a representation with this entity tag."""
        self.size, self.etag = 0, None
        self._digest = hashlib.sha256()
        if self.resume:
            self._tag_path.unlink(missing_ok=True)  # first: it must not vouch for other bytes
        self.path.open("wb").close()
        self.etag = etag
        if self.resume and etag is not None:
            with naming_errors(self._tag_path):
                self._tag_path.write_text(etag, "latin-1")

    def append(self, piece: bytes) -> None:
        """Store the next bytes."""
        with naming_errors(self.path), self.path.open("ab") as file:
            file.write(piece)
        if self._hashed:
            self._digest.update(piece)
        self.size += len(piece)

    def rename(self, path: Path) -> None:
        """Give the whole file its name, once all of it is on the disk."""
        with naming_errors(self.path), self.path.open("r+b") as file:
            sync_file(file)
        self.path.replace(path)
        sync_directory(path.parent)
        self._tag_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove what is left of it."""
        self._tag_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
