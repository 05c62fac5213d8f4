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

PER_MINUTE, LANES = 3_000, 2  # requests in all, actors


@ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)
class Lane:
    """A share of the rate. Started again on another node, it waits until the minute is over."""

    def __init__(self, per_minute: int) -> None:
        self._itwin = ITwinSession.from_env(limiter=Limiter(8, per_minute=per_minute))
        self._waits = ray.get_runtime_context().was_current_actor_reconstructed

    async def export(self, imodel_id: str, output: Path) -> tuple[str, int]:
        """An iModel to its file, unless it is there; an unfinished one is resumed."""
        if self._waits:
            await asyncio.sleep(60)
            self._waits = False
        if output.exists():  # noqa: ASYNC240 - quick
            return f"{output.name} was there", 0
        exported = await export_extended_data(self._itwin, imodel_id, output)
        return output.name, exported.rows


async def imodels_of(itwin_id: str) -> list[str]:
    """The ids of an iTwin's iModels."""
    async with ITwinSession.from_env() as itwin:
        return [each.id async for each in itwin.imodels.list_imodels(itwin_id)]


def main(itwin_id: str, directory: str) -> None:
    """Give iModels to whichever lane is free."""
    home = Path(directory).absolute()
    home.mkdir(parents=True, exist_ok=True)
    ids = asyncio.run(imodels_of(itwin_id))
    # Named after all that is in it, so that iModels which come later change no file that is there.
    outputs = [(imodel_id, home / f"part-{imodel_id}.parquet") for imodel_id in ids]
    ray.init()
    lanes = ActorPool([Lane.remote(PER_MINUTE // LANES) for _ in range(LANES)])
    for name, rows in lanes.map_unordered(lambda lane, each: lane.export.remote(*each), outputs):
        print(name, rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
