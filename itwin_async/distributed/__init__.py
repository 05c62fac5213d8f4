"""Ingestion on a Dask cluster: batches of iModels, a share of the rate for each worker, Parquet.

The rate and the concurrency are divided into shares, one for each worker there is at the start; one
batch runs on a share at a time. When its worker has died, a share waits for a minute, in which the
dead worker may have spent it, and moves to another worker: so the whole never exceeds the rate. A
share on which batch after batch fails is stopped, and others run its batches. A batch writes one
part, named after its iModels: run twice, it is the same part. The manifest says which parts count.
Needs the extra ``dask``.
"""

try:
    from itwin_async.distributed._ingest import ingest_extended_data
    from itwin_async.distributed._progress import IngestProgress
    from itwin_async.distributed._result import Ingested
except ModuleNotFoundError as _error:
    if _error.name not in {"distributed", "fsspec", "pyarrow", "rich"}:
        raise
    raise ImportError(f"an ingest needs {_error.name}: pip install 'itwin-async[dask]'") from None

__all__ = ["IngestProgress", "Ingested", "ingest_extended_data"]
