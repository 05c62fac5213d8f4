"""What most tests share: an emulator in a process of its own, and a cluster of two."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import processes
from distributed import Client
from emulated import Platform

from itwin_async.distributed import _shares

sys.path.append(str(Path(__file__).parents[1] / "cli"))  # for its terminal


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver has no credentials, and killed workers are no news."""
    for name in [name for name in os.environ if name.startswith("ITWIN_")]:
        monkeypatch.delenv(name)
    logging.getLogger("distributed").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with Platform(imodels=12, changesets=30, itwins=5) as running:
        yield running


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[Client]:
    with processes(platform, 2) as running:
        yield running


@pytest.fixture
def imodel_ids(platform: Platform) -> list[str]:
    """The ids of all iModels; and no faults, no requests of earlier tests."""
    platform.ask("forget")
    found = [item["id"] for item in platform.ask("imodels")]
    platform.ask("forget")
    return found


@pytest.fixture
def short_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that moves waits for a moment only: for tests that are not about the rate."""
    monkeypatch.setattr(_shares, "RATE_WINDOW", 0.1)
