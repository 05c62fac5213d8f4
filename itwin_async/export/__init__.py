"""Export of extended data to one file, which survives being killed."""

from itwin_async.export._export import Exported, export_extended_data
from itwin_async.export._formats import FileFormat
from itwin_async.export._job import ExportProgress

__all__ = ["ExportProgress", "Exported", "FileFormat", "export_extended_data"]
