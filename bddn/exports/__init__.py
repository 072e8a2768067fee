"""Folders to pass on: an encoder with its network, a card that states the terms, and tables that are described."""

from bddn.exports.exporting import Exported, export, export_with

__all__ = ["Exported", "export", "export_with"]
