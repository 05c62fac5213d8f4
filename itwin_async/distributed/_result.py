"""The result of a finished job."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ingested:
    """A finished job: its parts, how much they hold, and why which iModels failed.

    ``imodels`` counts those that are complete. Some ``rows`` of one that failed may be there; its
    batch is run again when the job is resumed. ``stopped_workers`` has the addresses of workers
    that got no more batches, since batch after batch failed there, with the last reason.

    ``checkpoint`` is that of a `itwin_async.sync.ChangeFeed` over the same iTwin or the same
    iModels, which goes on behind the rows; None where both or several iTwins were given.
    """

    rows: int
    bad: int
    imodels: int
    paths: list[str]
    bad_paths: list[str]
    failures: dict[str, str]
    manifest: str
    stopped_workers: dict[str, str] = field(default_factory=dict[str, str])
    checkpoint: str | None = None
