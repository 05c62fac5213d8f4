"""What a finished job gives."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ingested:
    """A finished job: its parts and what they hold, and the iModels that failed, with the reason.

    ``imodels`` counts those that are there as a whole. Of one that failed, some ``rows`` may be
    there. Its batch is run again when the job is resumed. ``stopped_workers`` names the workers
    that were given no more batches, since batch after batch failed there, with the last reason.
    """

    rows: int
    bad: int
    imodels: int
    paths: list[str]
    bad_paths: list[str]
    failures: dict[str, str]
    manifest: str
    stopped_workers: dict[str, str] = field(default_factory=dict[str, str])
