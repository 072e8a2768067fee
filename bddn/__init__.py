"""bddn: brain-to-network maps for any vision model."""

__version__ = "0.2.0"
