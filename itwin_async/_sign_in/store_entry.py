"""One key of a token store, locked, and called in a thread."""

from contextlib import AbstractContextManager

from itwin_async._aio.threads import DedicatedThread, completed
from itwin_async._core.secrets import SecretStr, SecretValue
from itwin_async.token_store import TokenStore


class StoreEntry:
    """What a store keeps under one key. All calls of the store come from one thread."""

    def __init__(
        self,
        store: TokenStore,
        unsaved: dict[str, SecretStr],
        key: str,
        thread: DedicatedThread,
    ) -> None:
        self._store = store
        self._unsaved = unsaved
        self._key = key
        self._thread = thread
        self._lock: AbstractContextManager[object] | None = None

    def __repr__(self) -> str:
        return "StoreEntry()"

    async def enter(self) -> None:
        """Take the lock. A cancellation does not wait for it: `leave` frees it once it came."""
        await self._thread.start(self._enter)

    async def leave(self) -> None:
        """Free the lock, or give up the wait for it."""
        left = self._thread.start(self._leave)
        if self._lock is not None:
            await completed(left)

    async def load(self) -> SecretStr | None:
        """The refresh token that is kept, or None."""
        if self._key in self._unsaved:
            return self._unsaved[self._key]
        token: object = (await completed(self._thread.start(self._load))).value
        if token is None or isinstance(token, SecretStr):
            return token
        if not isinstance(token, str):
            raise TypeError(f"load of a token store must give a str, not {type(token).__name__}")
        return SecretStr(token) if token else None

    async def save(self, token: SecretStr) -> None:
        """Keep a refresh token; in memory as well where the store raises."""
        self._unsaved[self._key] = token
        await completed(self._thread.start(self._store.save, self._key, token))
        del self._unsaved[self._key]

    async def clear(self) -> None:
        """Keep none any more."""
        self._unsaved.pop(self._key, None)
        await completed(self._thread.start(self._store.clear, self._key))

    # In the thread

    def _enter(self) -> None:
        lock = self._store.lock(self._key)
        lock.__enter__()
        self._lock = lock

    def _load(self) -> SecretValue:
        return SecretValue(self._store.load(self._key))

    def _leave(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.__exit__(None, None, None)
