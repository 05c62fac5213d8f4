"""The end of a process: emulated at each thing it does to a file, and for real."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Killed(BaseException):
    """Stands for the end of the process: nothing of it runs any more."""


class Killer:
    """Ends the process at the n-th thing it does to a file, before or after it was done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        self.at: float | None = None
        for module, name in (
            (os, "fsync"), (os, "replace"), (os, "unlink"), (os, "link"), (os, "rmdir"),
            (os, "mkdir"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, self._wrapped(getattr(module, name)))
        # pathlib's own names for them
        for name in ("replace", "unlink", "mkdir", "write_bytes"):
            monkeypatch.setattr(Path, name, self._wrapped(getattr(Path, name)))

    def _wrapped(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*args: Any, **kwargs: Any) -> Any:
            if self.at is None:
                return act(*args, **kwargs)
            self.done += 1
            if self.done > self.at + 0.75:
                raise Killed
            result = act(*args, **kwargs)
            if self.done > self.at:
                raise Killed
            return result

        return acted


def kill_after(process: subprocess.Popen[str], lines: int) -> bool:
    """Kill it behind so many lines of progress; whether it had ended by itself."""
    with process:
        assert process.stdout is not None
        for _ in range(lines):
            if not process.stdout.readline():
                assert process.wait() == 0
                return True
        process.kill()
        return process.wait() != -signal.SIGKILL
