"""Ingestion on a Dask cluster: batches of iModels, a share of the rate for each, Parquet parts.

The rate and the concurrency are cut into lanes, one for each worker there is at the start; a lane
runs one batch at a time. A lane that moves, because its worker has died, first waits out the minute
in which its share may have been sent: so the whole never exceeds the rate. A lane in which batch
after batch fails is stopped, and others run its batches. What a batch writes is one part, named
after its iModels: run twice, it is the same part. The manifest says which parts count. Needs the
extra ``dask``.
"""

from itwin_async.distributed._ingest import ingest_extended_data
from itwin_async.distributed._progress import IngestProgress
from itwin_async.distributed._result import Ingested

__all__ = ["IngestProgress", "Ingested", "ingest_extended_data"]
