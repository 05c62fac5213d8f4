"""The manifest: which parts count, what they hold, and which names are those of this ingest."""

import hashlib
from typing import Final

import msgspec

from itwin_async._files.atomic import FileDigest

VERSION: Final = 2


class NamedFile(msgspec.Struct, frozen=True):
    """A stored file: its name in the destination, and its digest."""

    name: str
    digest: FileDigest


class Batch(msgspec.Struct):
    """A batch of iModels; without ``rows`` it has no part yet."""

    imodels: list[str]
    rows: int | None = None
    bad: int = 0
    part: FileDigest | None = None
    bad_part: FileDigest | None = None
    failures: dict[str, str] = {}

    @property
    def key(self) -> str:
        """A digest of its iModels, after which its files are named."""
        return hashlib.sha256("\n".join(sorted(self.imodels)).encode()).hexdigest()[:16]

    @property
    def done(self) -> bool:
        """Whether all of its iModels are in the part."""
        return self.rows is not None and not self.failures

    def forget_part(self) -> None:
        """Drop the part, so that the batch is run again."""
        self.rows, self.bad, self.part, self.bad_part = None, 0, None, None

    def files(self, run: str) -> list[NamedFile]:
        """The files of the batch."""
        return [
            NamedFile(name, digest)
            for name, digest in (
                (part_name(run, self.key), self.part),
                (bad_name(run, self.key), self.bad_part),
            )
            if self.rows is not None and digest is not None
        ]


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """What an ingest has stored in a destination. ``run`` is in the name of each of its files."""

    run: str
    data_type: str | None
    fields: str
    batches: list[Batch]
    version: int
    sha256: str = ""

    def encode(self) -> bytes:
        """The manifest as it is stored: JSON, with a checksum of itself."""
        return msgspec.json.encode(msgspec.structs.replace(self, sha256=_checksum(self)))

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """Decode a manifest. Raises `ValueError` for one that no ingest of this version wrote."""
        try:
            manifest = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ValueError("not a manifest") from None
        if manifest.version != VERSION:
            raise ValueError("another version")
        if _checksum(manifest) != manifest.sha256:
            raise ValueError("changed since it was written")
        return manifest


def _checksum(manifest: Manifest) -> str:
    data = msgspec.json.encode(msgspec.structs.replace(manifest, sha256=""))
    return hashlib.sha256(data).hexdigest()


def part_name(run: str, key: str) -> str:
    """The name of a batch's part."""
    return f"part-{run}-{key}.parquet"


def bad_name(run: str, key: str) -> str:
    """The name of the file with a batch's bad rows."""
    return f"bad-{run}-{key}.jsonl"


def is_of_run(run: str, name: str) -> bool:
    """Whether a name is one of this ingest's: a part, bad rows, or an unfinished file."""
    return name.startswith((f"part-{run}-", f"bad-{run}-", f"new-{run}-"))
