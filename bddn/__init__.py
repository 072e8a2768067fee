"""bddn: brain-to-network maps for any vision model."""

__version__ = "0.1.0"
