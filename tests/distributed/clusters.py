"""Clusters of real processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster
from emulated import Platform


@contextmanager
def processes(platform: Platform, workers: int, **options: Any) -> Iterator[Client]:
    """A cluster whose workers, and nobody else, know who they are to the platform."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            env=platform.environment,
            **options,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def pids(client: Client) -> list[int]:
    return list(client.run(os.getpid).values())
