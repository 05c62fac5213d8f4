"""Readers of a data set, again and again while it is written."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from datasets import A, B

Rows = list[tuple[str, int, str]]


class Reader:
    """Reads again and again in a thread, and keeps what it found wrong."""

    def __init__(self, read: Callable[[Path], Rows], home: Path) -> None:
        self.times = 0
        self.wrong: list[str] = []
        self._read = read
        self._home = home
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._seen = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set() and not self.wrong:
            self._look()

    def _look(self) -> None:
        if not any(self._home.glob("*.parquet")):
            return
        try:
            rows = self._read(self._home)
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            self.wrong.append(f"{type(error).__name__}: {error}")
            return
        self.times += 1
        found = [(imodel_id, index) for imodel_id, index, _ in rows]
        if len(set(found)) < len(found):
            self.wrong.append("an entry is there twice")
        if not all(json.loads(data)["n"] == index for _, index, data in rows):
            self.wrong.append("an entry has the payload of another")
        if len(found) < self._seen:
            self.wrong.append("entries are gone")
        if {*found} != {*prefixes(found)}:
            self.wrong.append("an entry is missing before others")
        self._seen = len(found)


def prefixes(found: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for imodel_id in (A, B):
        count = sum(item[0] == imodel_id for item in found)
        yield from ((imodel_id, index) for index in range(1, count + 1))
