"""Where the refresh token of a person is kept between two runs."""

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import stat
import sys
import threading
import time
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import msgspec

from itwin_async._core.secrets import SecretBytes, SecretDict, SecretStr
from itwin_async._core.validation import check_no_tilde, path_text
from itwin_async._files.locks import try_lock

_logger = logging.getLogger("itwin_async")
_MAX_SIZE: Final = 1 << 20  # bytes of a store
_LOCK_WAIT: Final = 30.0  # seconds to wait for another process that holds the lock
_LOCK_POLL: Final = 0.02


@runtime_checkable
class TokenStore(Protocol):
    """Keeps refresh tokens by key. Plain methods, which the library calls in a thread.

    All calls between entering and leaving one ``lock`` come from the same thread.
    """

    def load(self, key: str, /) -> str | None:
        """The token that is kept, or None."""
        ...

    def save(self, key: str, token: str, /) -> None:
        """Keep a token in place of the one before."""
        ...

    def clear(self, key: str, /) -> None:
        """Keep none any more."""
        ...

    def lock(self, key: str, /) -> AbstractContextManager[object]:
        """Held from `load` to `save`, so that no two processes use the same rotating token."""
        ...


class MemoryTokenStore:
    """Keeps tokens for as long as it lives."""

    def __init__(self) -> None:
        self._tokens: Final = SecretDict()
        self._lock: Final = threading.Lock()

    def load(self, key: str, /) -> str | None:
        """The token that is kept, or None."""
        return self._tokens.get(key)

    def save(self, key: str, token: str, /) -> None:
        """Keep a token."""
        self._tokens[key] = token

    def clear(self, key: str, /) -> None:
        """Keep none."""
        self._tokens.pop(key, None)

    def lock(self, key: str, /) -> AbstractContextManager[object]:  # noqa: ARG002 - one for all
        """One at a time."""
        return self._lock


class FileTokenStore:
    """Keeps refresh tokens in a file that only its owner may read, and nothing else in it.

    Without ``path`` the file is ``tokens.json`` in the user's directory for configuration, such as
    ``~/.config/itwin-async``. It is replaced as a whole, and a link to it stays one; the lock is on
    a file beside it, so that processes share a rotating token. A file that others may read is
    mended, with a warning in the log; one that belongs to somebody else is a `PermissionError`; a
    damaged one counts as empty, with a warning. Raises `OSError` where the file cannot be read or
    written, and `TimeoutError` where another process keeps the lock.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if path is None:
            chosen = config_directory() / "tokens.json"
        else:
            chosen = Path(path_text("path", path))
        check_no_tilde("path", str(chosen))
        if not chosen.name:
            raise ValueError("path must name a file")
        self.path: Final = chosen

    def __repr__(self) -> str:
        path = getattr(self, "path", None)  # none in a report of an error in its making
        return f"FileTokenStore({str(path)!r})"

    def load(self, key: str, /) -> str | None:
        """The token that is kept under this key, or None."""
        token: str | None = self._read().get(key)
        return None if token is None else SecretStr(token)

    def save(self, key: str, token: str, /) -> None:
        """Keep a token under this key."""
        token = SecretStr(token)  # a report of an error shows the locals of its frames
        with self._locked(self._beside("lock")):
            tokens = self._read()
            tokens[key] = str(token)
            self._write(tokens)

    def clear(self, key: str, /) -> None:
        """Keep none under this key; the file goes with its last token."""
        with self._locked(self._beside("lock")):
            tokens = self._read()
            if tokens.pop(key, None) is None:
                return
            if tokens:
                self._write(tokens)
            else:
                Path(os.path.realpath(self.path)).unlink(missing_ok=True)

    def lock(self, key: str, /) -> AbstractContextManager[object]:
        """Held by one process, and one thread in it, at a time."""
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return self._locked(self._beside(f"{digest}.lock"))

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Generator[None]:
        with _naming(path, "the lock of the token store cannot be made"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "r+b") as file:  # closing it frees the lock
            until = time.monotonic() + _LOCK_WAIT
            while not try_lock(file):
                if time.monotonic() >= until:
                    raise TimeoutError(
                        errno.ETIMEDOUT,
                        f"the token store was not unlocked for {_LOCK_WAIT:g} s: another process "
                        "holds it, or its file system has no locks",
                        str(path),
                    )
                time.sleep(_LOCK_POLL)
            yield

    def _read(self) -> SecretDict:
        try:
            file = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return SecretDict()
        except OSError as error:
            reason = error.strerror or "it cannot be opened"
            raise type(error)(
                error.errno, f"the token store cannot be read: {reason}", str(self.path)
            ) from None
        try:
            self._check(file)
            data = SecretBytes(os.read(file, _MAX_SIZE))
        finally:
            os.close(file)
        try:
            return SecretDict(msgspec.json.decode(data, type=_Content).refresh_tokens)
        except (msgspec.DecodeError, UnicodeError):
            pass
        _logger.warning("The token store %s is damaged, and taken as empty", self.path)
        return SecretDict()

    def _check(self, file: int) -> None:
        """See that the file is ours alone."""
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "the token store is not a regular file", str(self.path))
        if sys.platform == "win32":
            return  # a user's directory is theirs alone there
        if found.st_uid != os.geteuid():
            raise PermissionError(
                errno.EPERM,
                f"the token store belongs to another user (number {found.st_uid}): remove it, or "
                "give FileTokenStore another path",
                str(self.path),
            )
        if found.st_mode & 0o077:
            with _naming(self.path, "others may read the token store, which cannot be changed"):
                os.fchmod(file, 0o600)
            _logger.warning("Others could read the token store %s: they no longer can", self.path)

    def _write(self, tokens: SecretDict) -> None:
        data = SecretBytes(msgspec.json.encode(_Content(refresh_tokens=dict(tokens))))
        target = Path(os.path.realpath(self.path))
        draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        with _naming(self.path, "the token store cannot be written"):
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                try:
                    _write_all(file, data)
                    os.fsync(file)
                finally:
                    os.close(file)
                draft.replace(target)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise


class _Content(msgspec.Struct):
    refresh_tokens: dict[str, str]
    version: int = 1

    def __repr__(self) -> str:
        return "_Content()"


def _write_all(file: int, data: SecretBytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(file, memoryview(data)[written:])


@contextlib.contextmanager
def _naming(path: Path, what: str) -> Generator[None]:
    """Say of an error of the system what could not be done, and to which file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise type(error)(error.errno, f"{what}: {reason}", str(path)) from None


def config_directory() -> Path:
    r"""The user's directory for this library's configuration; never the working directory.

    ``$XDG_CONFIG_HOME/itwin-async`` or ``~/.config/itwin-async``; on macOS ``~/Library/Application
    Support/itwin-async``, on Windows ``%APPDATA%\itwin-async``. `ValueError` where the user has
    no home directory.
    """
    name = "APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME"
    base = os.environ.get(name, "")
    if base and os.path.isabs(base):  # noqa: PTH117 - looks at nothing
        return Path(base, "itwin-async")
    home = os.path.expanduser("~")  # noqa: PTH111 - gives "~" where there is none
    if not os.path.isabs(home):  # noqa: PTH117
        raise ValueError(f"the user has no home directory: set {name} to an absolute path")
    inside = "Library/Application Support" if sys.platform == "darwin" else ".config"
    return Path(home, inside, "itwin-async")
