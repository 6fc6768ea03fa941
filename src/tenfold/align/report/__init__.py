"""The report of a preference training: one HTML file that explains itself."""

from tenfold.align.report.page import write_report

__all__ = ["write_report"]
