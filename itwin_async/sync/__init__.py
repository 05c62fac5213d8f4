"""What is new: the entries of extended data since the last time, each once."""

from itwin_async.sync._feed import ChangeFeed
from itwin_async.sync._parquet_dataset import ParquetDataset
from itwin_async.sync._sink import Row, Sink
from itwin_async.sync._sync import Synced, SyncProgress, sync_extended_data

__all__ = [
    "ChangeFeed",
    "ParquetDataset",
    "Row",
    "Sink",
    "SyncProgress",
    "Synced",
    "sync_extended_data",
]
