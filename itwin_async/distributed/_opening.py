"""The beginning of a job: what an earlier run stored, and whether all see the same place."""

import logging
import secrets
from typing import Any

from itwin_async._aio.threads import in_thread
from itwin_async._rows.types import type_name
from itwin_async.distributed._destination import Destination
from itwin_async.distributed._manifest import VERSION, Batch, Manifest, NamedFile
from itwin_async.distributed._monitor import Monitor
from itwin_async.distributed._shares import run_all
from itwin_async.distributed._workers import check_files, fields_digest, write_probe

_logger = logging.getLogger("itwin_async")


class Opening:
    """Reads the manifest of a destination, and verifies it. ``workers`` are addresses."""

    def __init__(
        self, client: Any, monitor: Monitor, destination: Destination, workers: list[str]
    ) -> None:
        self._client = client
        self._monitor = monitor
        self._destination = destination
        self._workers = workers

    async def open(self, data_type: Any, *, resume: bool) -> tuple[Manifest, bool]:
        """The manifest of an earlier run or a new one, and whether there was an earlier run.

        Raises `ValueError` for a destination that cannot be used.
        """
        destination = self._destination
        await in_thread(destination.prepare)
        earlier = await in_thread(destination.read_manifest)
        manifest = Manifest(
            run=secrets.token_hex(8) if earlier is None else earlier.run,
            data_type=None if data_type is None else type_name(data_type),
            fields=fields_digest(data_type),
            batches=[],
            version=VERSION,
        )
        if earlier is not None and resume:
            _check_same_type(earlier, manifest, destination.label)
            manifest.batches = earlier.batches
            manifest.states, manifest.gone = earlier.states, earlier.gone
        await self._probe(manifest.run)
        await self._forget_changed_parts(manifest)
        # First the manifest, then the parts that it does not name any more.
        await in_thread(destination.write_manifest, manifest)
        if others := await in_thread(destination.remove_unnamed, manifest):
            _logger.warning(
                "%s also holds %d files of others, such as %s, which are left as they are",
                destination.label,
                len(others),
                min(others),
            )
        return manifest, earlier is not None

    async def _probe(self, run: str) -> None:
        """Raise `ValueError` unless what each worker writes is what the client sees."""
        destination = self._destination
        written: dict[str, tuple[str | None, str]] = await self._client.run(
            write_probe, destination.root, run, workers=self._workers, on_error="ignore"
        )
        problems: list[str] = []
        for worker, (name, why) in written.items():
            if name is None:
                problems.append(
                    "destination must be where client and workers can write, and the worker at "
                    f"{worker} cannot write to {destination.label}: {why}"
                )
            elif not await in_thread(destination.remove_probe, name):
                problems.append(
                    "destination must be the same place for client and workers, and what the "
                    f"worker at {worker} wrote to {destination.label} is not there for the client"
                )
        if problems:
            raise ValueError(problems[0])

    async def _forget_changed_parts(self, manifest: Manifest) -> None:
        """Drop the parts whose files are not as they were stored; the workers read them."""
        sizes = await in_thread(self._destination.sizes)
        run, batches = manifest.run, [batch for batch in manifest.batches if batch.rows is not None]
        changed = {batch.key for batch in batches if differs(batch, run, sizes)}
        whole = [batch for batch in batches if batch.key not in changed]
        files = [(batch.key, file) for batch in whole for file in batch.files(run)]
        count = len(self._workers)
        shares = [files[number::count] for number in range(count)]
        for share, found in zip(
            shares,
            await run_all(self._check([file for _, file in share]) for share in shares),
            strict=True,
        ):
            changed |= {key for (key, _), same in zip(share, found, strict=True) if not same}
        if changed:
            manifest.forget(changed)
            _logger.warning(
                "%d of %d parts in %s are not as they were stored, and are made again",
                len(changed),
                len(batches),
                self._destination.label,
            )

    async def _check(self, files: list[NamedFile]) -> list[bool]:
        if not files:
            return []
        task = self._client.submit(check_files, self._destination.root, files, pure=False)
        return list(await self._monitor.result(task) or [False] * len(files))


def _check_same_type(earlier: Manifest, now: Manifest, label: str) -> None:
    if earlier.data_type != now.data_type:
        raise ValueError(
            f"{label} holds parts of {earlier.data_type}, not of {now.data_type}: "
            "choose another destination, or do not resume"
        )
    if earlier.fields != now.fields:
        raise ValueError(
            f"{label} holds parts of {now.data_type} with other fields than it has now: "
            "choose another destination, or do not resume"
        )


def differs(batch: Batch, run: str, sizes: dict[str, int]) -> bool:
    """Whether a file of the batch is missing, or has another size."""
    return any(sizes.get(file.name) != file.digest.size for file in batch.files(run))
