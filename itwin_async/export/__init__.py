"""Export of extended data to one file, which survives being killed."""

from itwin_async.export._export import Exported, export_extended_data
from itwin_async.export._job import ExportProgress
from itwin_async.export._rows import FileFormat

__all__ = ["ExportProgress", "Exported", "FileFormat", "export_extended_data"]
