"""What is new: the entries of extended data since the last time, each once."""

from itwin_async.sync._feed import ChangeFeed
from itwin_async.sync._sink import Row, Sink

__all__ = ["ChangeFeed", "Row", "Sink"]
