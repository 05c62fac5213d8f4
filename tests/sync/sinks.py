"""Sinks for tests: memory, and SQLite, where a commit is a transaction."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from itwin_async.sync import Row


class MemorySink:
    """Keeps rows in memory; each write is remembered with its checkpoint."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.committed: str | None = None
        self.writes: list[tuple[int, str]] = []
        self.open = False

    async def __aenter__(self) -> Self:
        assert not self.open
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    async def checkpoint(self) -> str | None:
        return self.committed

    async def write(self, rows: Sequence[Row], checkpoint: str) -> None:
        assert self.open
        await asyncio.sleep(0)  # cancelled here it commits nothing
        assert len({row.imodel_id for row in rows}) <= 1
        self.rows += rows
        self.committed = checkpoint
        self.writes.append((len(rows), checkpoint))

    @property
    def keys(self) -> list[tuple[str, int]]:
        """What is stored, in order."""
        return sorted((row.imodel_id, row.changeset_index) for row in self.rows)


class SQLiteSink:
    """Rows and the checkpoint in one transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> Self:
        self._database = await asyncio.to_thread(self._connect)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._database.close)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        database.execute("create table if not exists entries (imodel, idx, data)")
        database.execute("create table if not exists checkpoint (text)")
        return database

    async def checkpoint(self) -> str | None:
        found = await asyncio.to_thread(
            lambda: self._database.execute("select text from checkpoint").fetchone()
        )
        return found and found[0]

    async def write(self, rows: Sequence[Row], checkpoint: str) -> None:
        await asyncio.shield(asyncio.to_thread(self._commit, rows, checkpoint))

    def _commit(self, rows: Sequence[Row], checkpoint: str) -> None:
        values = [(row.imodel_id, row.changeset_index, row.payload) for row in rows]
        self._database.execute("begin")
        self._database.executemany("insert into entries values (?, ?, ?)", values)
        self._database.execute("delete from checkpoint")
        self._database.execute("insert into checkpoint values (?)", (checkpoint,))
        self._database.execute("commit")
