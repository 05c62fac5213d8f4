"""A dlt source: the extended data of an iTwin, and with each run only what is new.

    pip install itwin-async 'dlt[duckdb]'
    python examples/dlt_source.py ITWIN_ID    # again and again: dlt keeps how far it came

The checkpoint lies in dlt's state, which it commits with the rows. A run that is killed in between
gives rows again, and the primary key makes them one.
"""

import sys
from collections.abc import AsyncIterator
from typing import Any

import dlt

from itwin_async import ITwinSession, PayloadError
from itwin_async.sync import ChangeFeed


@dlt.source(name="itwin")
def itwin_source(itwin_id: str) -> Any:
    """What dlt loads: the table ``extended_data``."""
    return extended_data(itwin_id)


@dlt.resource(
    primary_key=("imodel_id", "changeset_id"),
    write_disposition="merge",
    columns={"data": {"data_type": "json"}, "error": {"data_type": "text"}},
)
async def extended_data(itwin_id: str) -> AsyncIterator[dict[str, Any]]:
    """One row for each entry; one with a bad payload has the reason in ``error``."""
    state = dlt.current.resource_state("extended_data")
    async with (
        ITwinSession.from_env() as itwin,
        ChangeFeed(itwin, itwin_id=itwin_id, checkpoint=state.get(itwin_id), every=None) as entries,
    ):
        async for entry in entries:
            row = {
                "imodel_id": entry.imodel_id,
                "changeset_index": entry.changeset_index,
                "changeset_id": entry.changeset_id,
            }
            try:
                yield {**row, "data": entry.data, "error": None}
            except PayloadError as error:
                yield {**row, "data": None, "error": error.message}
        state[itwin_id] = entries.checkpoint


def main(itwin_id: str) -> None:
    """Load it into a file of DuckDB in the working directory."""
    pipeline = dlt.pipeline("itwin_changes", destination="duckdb", dataset_name="itwin")
    print(pipeline.run(itwin_source(itwin_id)))


if __name__ == "__main__":
    main(*sys.argv[1:])
