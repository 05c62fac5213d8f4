"""The manifest: which parts count, what they hold, and which names are those of this ingest."""

import hashlib
from collections import defaultdict
from collections.abc import Collection
from typing import Final

import msgspec

from itwin_async._files.atomic import FileDigest
from itwin_async.sync._checkpoint import Checkpoint

VERSION: Final = 3
ANY_SCOPE: Final = bytes(8)  # of the checkpoints in a manifest, whose scope is the manifest


class NamedFile(msgspec.Struct, frozen=True):
    """A stored file: its name in the destination, and its digest."""

    name: str
    digest: FileDigest


class Batch(msgspec.Struct):
    """A batch of iModels; without ``rows`` it was not run yet.

    ``owner`` is the iTwin in which its iModels were found, empty where their ids were given.
    ``since`` is the checkpoint behind which it reads, None from the beginning; ``checkpoint`` is
    how far it has read those that did not fail. ``pushes`` has the last push of each iModel in
    microseconds since 1970, and whether that was long enough before it was planned.
    """

    imodels: list[str]
    owner: str = ""
    since: str | None = None
    checkpoint: str | None = None
    pushes: dict[str, tuple[int | None, bool]] = {}
    rows: int | None = None
    bad: int = 0
    part: FileDigest | None = None
    bad_part: FileDigest | None = None
    failures: dict[str, str] = {}

    @property
    def key(self) -> str:
        """A digest of its iModels and of where it begins, after which its files are named."""
        begin = [] if self.since is None else [self.since]
        return hashlib.sha256("\n".join([*sorted(self.imodels), *begin]).encode()).hexdigest()[:16]

    @property
    def done(self) -> bool:
        """Whether all of its iModels are in the part."""
        return self.rows is not None and not self.failures

    def forget_part(self) -> None:
        """Drop the part, so that the batch is run again."""
        self.rows, self.bad, self.part, self.bad_part = None, 0, None, None
        self.checkpoint = None

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
    """What an ingest has stored in a destination. ``run`` is in the name of each of its files.

    ``batches`` are in the order in which they were planned. By owner, ``states`` has checkpoints
    of what is in no batch, and ``gone`` those of iModels that were deleted.
    """

    run: str
    data_type: str | None
    fields: str
    batches: list[Batch]
    version: int
    states: dict[str, str] = {}
    gone: dict[str, str] = {}
    sha256: str = ""

    def checkpoint(self, owner: str | None = None) -> Checkpoint:
        """How far the iModels are, of one owner or of all; without those that failed."""
        texts = [
            *(text for name, text in self.states.items() if owner in {None, name}),
            *(
                batch.checkpoint
                for batch in self.batches
                if batch.checkpoint is not None and owner in {None, batch.owner}
            ),
            *(text for name, text in self.gone.items() if owner in {None, name}),
        ]
        return Checkpoint(ANY_SCOPE).combined(Checkpoint.parse(text) for text in texts)

    def forget(self, keys: Collection[str]) -> None:
        """Drop the parts of these batches, so that they are run again.

        They will read to the end of their lists. So later batches of the same iModels are left
        out, and what those held of others is found as new once more.
        """
        kept: list[Batch] = []
        read_again: set[str] = set()
        for batch in self.batches:
            if read_again.isdisjoint(batch.imodels):
                kept.append(batch)
                if batch.key not in keys:
                    continue
                batch.forget_part()
            read_again.update(batch.imodels)
        self.batches = kept

    def begin_behind(self, owner: str, checkpoint: Checkpoint) -> None:
        """Take what a checkpoint covers as read, unless more was."""
        known = Checkpoint.parse(self.states.get(owner) or str(Checkpoint(ANY_SCOPE)))
        added = Checkpoint(ANY_SCOPE, checkpoint.records)
        self.states = {**self.states, owner: str(known.combined([added]))}

    def fold(self) -> None:
        """Move how far batches without rows have read to the states, and leave them out."""
        kept: list[Batch] = []
        read: defaultdict[str, list[Checkpoint]] = defaultdict(list)  # by owner
        for batch in self.batches:
            if not batch.done or batch.files(self.run):
                kept.append(batch)
            elif batch.checkpoint is not None:
                read[batch.owner].append(Checkpoint.parse(batch.checkpoint))
        for owner, checkpoints in read.items():
            self.begin_behind(owner, Checkpoint(ANY_SCOPE).combined(checkpoints))
        self.batches = kept

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


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """A batch that was run since the manifest was written: what is added to it."""

    run: str
    batch: Batch
    sha256: str = ""

    def encode(self) -> bytes:
        """The record as it is stored: JSON, with a checksum of itself."""
        return msgspec.json.encode(msgspec.structs.replace(self, sha256=_checksum(self)))

    @classmethod
    def decode(cls, data: bytes) -> "Record | None":
        """Decode a record; None for one that is not whole, whose batch is run again."""
        try:
            record = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return record if _checksum(record) == record.sha256 else None


def _checksum(value: Manifest | Record) -> str:
    data = msgspec.json.encode(msgspec.structs.replace(value, sha256=""))
    return hashlib.sha256(data).hexdigest()


def part_name(run: str, key: str) -> str:
    """The name of a batch's part."""
    return f"part-{run}-{key}.parquet"


def bad_name(run: str, key: str) -> str:
    """The name of the file with a batch's bad rows."""
    return f"bad-{run}-{key}.jsonl"


def record_name(run: str, key: str) -> str:
    """The name of the file that adds a batch to the manifest."""
    return f"done-{run}-{key}.json"


def is_record(run: str, name: str) -> bool:
    """Whether a name is that of such a file."""
    return name.startswith(f"done-{run}-")


def is_of_run(run: str, name: str) -> bool:
    """Whether a name is one of this ingest's: part, bad rows, record, or an unfinished file."""
    return name.startswith((f"part-{run}-", f"bad-{run}-", f"new-{run}-", f"done-{run}-"))
