"""The file storage: what was uploaded, and files whose bytes are made up from their name."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

_BLOCK: Final = 1 << 16  # bytes
MAX_UPLOADED: Final = 256 << 20  # bytes of all uploads together


class StorageFullError(Exception):
    """The uploads are larger than the emulator keeps."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file. Without ``content`` its bytes follow from its name, and are made when read."""

    name: str
    size: int
    content: bytes | None = field(default=None, repr=False)

    @property
    def etag(self) -> str:
        """The entity tag: another one for other bytes."""
        known = f"{self.name}\n{self.size}".encode() if self.content is None else self.content
        return f'"0x{hashlib.sha256(known).hexdigest()[:15].upper()}"'

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` to ``stop``, in pieces."""
        if self.content is not None:
            yield self.content[start:stop]
            return
        for number in range(start // _BLOCK, -(-stop // _BLOCK)):
            begin = number * _BLOCK
            name = f"{self.name}\n{number}".encode()
            block = hashlib.shake_128(name).digest(min(_BLOCK, self.size - begin))
            yield block[max(start - begin, 0) : stop - begin]


class Storage:
    """Files by container and name. A container belongs to one iModel."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, StoredFile]] = {}
        self._blocks: dict[tuple[str, str], dict[str, bytes]] = {}
        self._uploaded = 0

    def find(self, container: str, name: str) -> StoredFile | None:
        """The file of this name."""
        return self._files.get(container, {}).get(name)

    def make_up(self, container: str, name: str, size: int) -> None:
        """Have a file of this name and size, unless there is one."""
        made_up = StoredFile(f"{container}/{name}", size)
        self._files.setdefault(container, {}).setdefault(name, made_up)

    def copy(self, source: str, target: str, name: str, size: int) -> None:
        """Have a file in another container too, made up in this size where nobody uploaded it."""
        self.make_up(source, name, size)
        file = self._files.setdefault(target, {})[name] = self._files[source][name]
        self._uploaded += 0 if file.content is None else file.size

    def put(self, container: str, name: str, content: bytes) -> StoredFile:
        """Store a file; `StorageFullError` where there is no room."""
        earlier = self.find(container, name)
        replaced = earlier.size if earlier and earlier.content is not None else 0
        self._make_room(len(content) - replaced)
        file = StoredFile(f"{container}/{name}", len(content), content)
        self._files.setdefault(container, {})[name] = file
        return file

    def put_block(self, container: str, name: str, block_id: str, content: bytes) -> None:
        """Keep a block until `commit` makes a file of it."""
        self._make_room(len(content))
        self._blocks.setdefault((container, name), {})[block_id] = content

    def commit(self, container: str, name: str, block_ids: Sequence[str]) -> StoredFile | None:
        """Make a file of blocks in this order; None where one of them is missing."""
        blocks = self._blocks.get((container, name), {})
        if not all(block_id in blocks for block_id in block_ids):
            return None
        content = b"".join(blocks[block_id] for block_id in block_ids)
        self._uploaded -= sum(map(len, blocks.values()))
        self._blocks.pop((container, name), None)
        return self.put(container, name, content)

    def drop(self, container: str) -> None:
        """Delete a container with its files."""
        files = self._files.pop(container, {}).values()
        self._uploaded -= sum(file.size for file in files if file.content is not None)

    def _make_room(self, size: int) -> None:
        if self._uploaded + size > MAX_UPLOADED:
            raise StorageFullError
        self._uploaded += size
