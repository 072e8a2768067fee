"""The report: a run, or several side by side, as one page that needs no network."""

from bddn.report.page import Page, write_report

__all__ = ["Page", "write_report"]
