"""Stage one: run a backbone once over the images of a dataset and seal its tokens in a store."""

from bddn.extraction.extraction import Extraction, extract

__all__ = ["Extraction", "extract"]
