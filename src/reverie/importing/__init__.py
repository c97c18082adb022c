"""Whole folders of pictures taken into a memory: encoded, resumable, and watched for what comes later."""

from reverie.importing.job import Importing, import_folder
from reverie.importing.report import ImportReport
from reverie.importing.watching import Watching, watch_folder

__all__ = ["ImportReport", "Importing", "Watching", "import_folder", "watch_folder"]
