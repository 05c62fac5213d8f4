"""The manifest: which parts count, what they hold, and how they are told from files of others."""

import hashlib
from typing import Final

import msgspec

VERSION: Final = 2


class StoredFile(msgspec.Struct, frozen=True):
    """A file as it was written: its size in bytes, and its digest."""

    size: int
    sha256: str


class NamedFile(msgspec.Struct, frozen=True):
    """A stored file, and its name in the destination."""

    name: str
    stored: StoredFile


class Batch(msgspec.Struct):
    """A batch in the manifest; without ``rows`` it has no part yet."""

    imodels: list[str]
    rows: int | None = None
    bad: int = 0
    part: StoredFile | None = None
    bad_part: StoredFile | None = None
    failures: dict[str, str] = {}

    @property
    def key(self) -> str:
        """What its files are named after: the same iModels, the same names."""
        return hashlib.sha256("\n".join(sorted(self.imodels)).encode()).hexdigest()[:16]

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.rows is not None and not self.failures

    def forget_part(self) -> None:
        """Take the part for one that is not there: the batch is to be run again."""
        self.rows, self.bad, self.part, self.bad_part = None, 0, None, None

    def files(self, run: str) -> list[NamedFile]:
        """The files that it has, by their names."""
        return [
            NamedFile(name, stored)
            for name, stored in (
                (part_name(run, self.key), self.part),
                (bad_name(run, self.key), self.bad_part),
            )
            if self.rows is not None and stored is not None
        ]


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """All that is known of a destination. ``run`` is in the name of each file that is its own."""

    run: str
    data_type: str | None
    fields: str
    batches: list[Batch]
    version: int
    sha256: str = ""

    def encode(self) -> bytes:
        """As it is stored: with a digest of itself."""
        text = msgspec.json.encode(msgspec.structs.replace(self, sha256=""))
        return msgspec.json.encode(
            msgspec.structs.replace(self, sha256=hashlib.sha256(text).hexdigest())
        )

    @classmethod
    def decode(cls, text: bytes) -> "Manifest":
        """What was stored. Raises `ValueError` for all that no ingest of this version wrote."""
        try:
            manifest = msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ValueError("not a manifest") from None
        if manifest.version != VERSION:
            raise ValueError("another version")
        stored, manifest.sha256 = manifest.sha256, ""
        if hashlib.sha256(msgspec.json.encode(manifest)).hexdigest() != stored:
            raise ValueError("changed since it was written")
        return manifest


def part_name(run: str, key: str) -> str:
    """The name of a batch's part."""
    return f"part-{run}-{key}.parquet"


def bad_name(run: str, key: str) -> str:
    """The name of the file with a batch's bad rows."""
    return f"bad-{run}-{key}.jsonl"


def is_of_run(run: str, name: str) -> bool:
    """Whether a file can only be this ingest's: a part, bad rows, or something unfinished."""
    return name.startswith((f"part-{run}-", f"bad-{run}-", f"new-{run}-"))
