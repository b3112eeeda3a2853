"""Makes one self-contained HTML page of a run, from its record and from what its loggers wrote."""

from phasewire.app.report.page import REPORT_NAME, write_report

__all__ = ["REPORT_NAME", "write_report"]
