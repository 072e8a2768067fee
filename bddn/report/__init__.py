"""The report: one HTML page of one run or several, which needs no network."""

from bddn.report.page import Page, write_report

__all__ = ["Page", "write_report"]
