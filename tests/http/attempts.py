"""Answers, retries and tokens that several tests of the executor share."""

import itertools

import pytest
from support import (
    answer,
)

from itwin_async import (
    Token,
)
from itwin_async._http import admission, host_pauses


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 429 without `Retry-After` makes no pause, but where `DEFAULT_RETRY_AFTER` is tested."""
    for module in (admission, host_pauses):
        monkeypatch.setattr(module, "DEFAULT_RETRY_AFTER", 0.0)


def refused(status: int, *headers: str, body: bytes = b"") -> bytes:
    return answer(body, *headers, status=f"{status} X")


class Tokens:
    """A provider whose every token is another one."""

    def __init__(self, *values: str, life: float | None = None) -> None:
        self.calls = 0
        self._values = iter(values) if values else (f"token-{n}" for n in itertools.count(1))
        self._lifecycle = life

    async def __call__(self) -> Token:
        self.calls += 1
        return Token(next(self._values), self._lifecycle)
