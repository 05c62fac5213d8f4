"""How many entries a second come through: printed, for who looks; the rows are what is tested."""

import sys
import time

import ingested
import pytest
from clusters import processes
from emulated import Platform

from itwin_async.distributed import ingest_extended_data


@pytest.mark.parametrize("workers", [1, 2])
def test_throughput(workers, tmp_path, capsys):
    with (
        Platform(imodels=16, changesets=1_000, payload_bytes=2_000) as platform,
        processes(platform, workers) as client,
    ):
        imodel_ids = [item["id"] for item in platform.ask("imodels")]
        began = time.monotonic()
        found = ingest_extended_data(
            client,
            ingested.provider,
            imodel_ids,
            tmp_path,
            ingested.Payload,
            per_minute=6_000,
            batch_entries=1_000,
            show_progress=False,
        )
        seconds = time.monotonic() - began
    assert (found.rows, found.failures) == (16_000, {})
    assert len(found.paths) == 16
    with capsys.disabled():
        sys.stderr.write(f"\n{workers} worker(s): {found.rows / seconds:,.0f} entries/s\n")
