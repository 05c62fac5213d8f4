"""Extended data to Parquet with Ray: an actor for each share of the rate, a file for each iModel.

    pip install itwin-async[arrow] ray
    python ray_ingest.py ITWIN_ID DIRECTORY

The nodes have ITWIN_CLIENT_ID and ITWIN_CLIENT_SECRET in their environment, and share DIRECTORY.
Run again after a failure, it goes on where it was.
"""

import asyncio
import sys
from pathlib import Path

import ray
from ray.util import ActorPool

from itwin_async import ITwinSession, Limiter
from itwin_async.export import export_extended_data

PER_MINUTE, ACTORS = 3_000, 2  # requests of all actors together


@ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)
class Exporter:
    """Exports within a share of the rate; restarted on another node, it waits for a minute."""

    def __init__(self, per_minute: int) -> None:
        self._itwin = ITwinSession.from_env(limiter=Limiter(8, per_minute=per_minute))
        self._restarted = ray.get_runtime_context().was_current_actor_reconstructed

    async def export(self, imodel_id: str, output: Path) -> tuple[str, int]:
        """Export an iModel to its file, unless it is there; an unfinished one is resumed."""
        if self._restarted:
            await asyncio.sleep(60)  # the share was used on the node before
            self._restarted = False
        if output.exists():  # noqa: ASYNC240 - quick
            return f"{output.name} was there", 0
        exported = await export_extended_data(self._itwin, imodel_id, output)
        return output.name, exported.rows


async def imodels_of(itwin_id: str) -> list[str]:
    """The ids of an iTwin's iModels."""
    async with ITwinSession.from_env() as itwin:
        return [imodel.id async for imodel in itwin.imodels.list_imodels(itwin_id)]


def main(itwin_id: str, directory: str) -> None:
    """Give iModels to whichever actor is free."""
    home = Path(directory).absolute()
    home.mkdir(parents=True, exist_ok=True)
    ids = asyncio.run(imodels_of(itwin_id))
    # Named after all that is in it, so that iModels which are added later change no file.
    outputs = [(imodel_id, home / f"part-{imodel_id}.parquet") for imodel_id in ids]
    ray.init()
    actors = ActorPool([Exporter.remote(PER_MINUTE // ACTORS) for _ in range(ACTORS)])
    for name, rows in actors.map_unordered(lambda actor, args: actor.export.remote(*args), outputs):
        print(name, rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
