"""The benchmark's data: seeded, built when first needed, and named by the iModel id itself.

An iModel id spells out its data set (payload size, latency, length, number), so the server keeps
no table, a client needs nothing but an id, and two runs on any machine see the same bytes.
"""

import json
import random
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1

SMALL = 132  # the documented sample is of this size: 100 such entries make a page of 27 KB
LARGE = 204_800  # the most that the platform takes

RECORDS_FROM = 1024  # smaller payloads hold what the documented sample holds, and nothing more
POOL_BYTES = 20 << 20  # distinct payloads of one size; entries take them in turn


@dataclass(frozen=True, slots=True)
class Dataset:
    """What one iModel holds. `number` tells apart iModels that hold the same."""

    size: int
    total: int
    latency_ms: int = 0
    number: int = 0
    names_only: bool = False

    @property
    def imodel_id(self) -> str:
        """A GUID that `from_id` reads back."""
        return (
            f"{self.size:08x}-{self.latency_ms:04x}-400{self.names_only:d}-8000-"
            f"{self.total:06x}{self.number:06x}"
        )

    @classmethod
    def from_id(cls, imodel_id: str) -> "Dataset":
        """The data set that an iModel id names; `ValueError` for any other id."""
        size, latency, names_only, variant, rest = imodel_id.split("-")
        if variant != "8000" or names_only[:3] != "400" or len(rest) != 12:
            raise ValueError(imodel_id)
        return cls(
            int(size, 16),
            int(rest[:6], 16),
            int(latency, 16),
            int(rest[6:], 16),
            names_only[3] == "1",
        )

    @property
    def pool(self) -> list[tuple[bytes, int]]:
        """Distinct payloads, in base64, each with the number of items in it."""
        return payloads(self.size, self.names_only)

    def entry(self, index: int) -> bytes:
        """Entry number `index`, counted from 1 as changesets are, the way it is on the wire."""
        pool = self.pool
        return b'{"changesetId":"%b","changesetIndex":%d,"data":"%b"}' % (
            sha1(b"%d" % index).hexdigest().encode(),
            index,
            pool[(index - 1) % len(pool)][0],
        )

    def items(self) -> int:
        """The sum of what a client must have counted once it has decoded every payload."""
        counts = [count for _, count in self.pool]
        rounds, rest = divmod(self.total, len(counts))
        return rounds * sum(counts) + sum(counts[:rest])


# Two small pages, for whatever a client does once in its life. The server does not count them.
WARM_UP = Dataset(SMALL, 200, number=0xFFFFFF)


@lru_cache(maxsize=8)
def payloads(size: int, names_only: bool) -> list[tuple[bytes, int]]:  # noqa: FBT001
    """Make the distinct payloads of one size: at least 100, at most 1,000."""
    rng = random.Random(f"{size} {names_only}")
    count = max(100, min(1000, POOL_BYTES // size))
    bodies = [_payload(rng, size, names_only=names_only) for _ in range(count)]
    return [(b64encode(body), items) for body, items in bodies]


def _payload(rng: random.Random, size: int, *, names_only: bool) -> tuple[bytes, int]:
    """JSON of exactly `size` bytes: the changed files and, if there is room, changed elements.

    Large payloads are mostly records, because that is where decoders differ: a list of 5,000
    names alone costs every decoder little, one of 5,000 small objects costs five times that.
    """
    data: dict[str, object] = {"changedFiles": [], "taskId": _guid(rng)}
    names: list[str] = []
    changes: list[dict[str, int]] = []
    with_records = size >= RECORDS_FROM and not names_only
    if with_records:
        data["changes"] = changes
    data["changedFiles"] = names
    # One name is added last, of the length that fills the payload; 24 bytes are kept for it.
    room = size - len(_dump({"data": data})) - 24
    share = room // 10 if with_records else room
    while share >= 27:  # what a name takes
        names.append(f"Area-{rng.randrange(100):02}/Model_{rng.randrange(10**6):06}.dgn")
        share -= len(names[-1]) + 3
    used = len(_dump({"data": data}))
    while with_records and used < size - 80:
        record = {
            "id": rng.randrange(10**7),
            "op": rng.randrange(3),
            "file": rng.randrange(len(names)),
        }
        changes.append(record)
        used += len(_dump(record)) + 1
    names.append("")
    names[-1] = "x" * (size - len(_dump({"data": data})) - 4) + ".dgn"
    body = _dump({"data": data})
    if len(body) != size:
        raise AssertionError(f"a payload of {len(body)} bytes instead of {size}")
    return body, len(names) + len(changes)


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _guid(rng: random.Random) -> str:
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
