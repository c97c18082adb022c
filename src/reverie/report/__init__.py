"""What a finished run becomes: contact sheet, animation, charts and a page that explains it."""

from reverie.report.run import Run, load_run
from reverie.report.write import write_report

__all__ = ["Run", "load_run", "write_report"]
