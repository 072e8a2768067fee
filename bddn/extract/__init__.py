"""Stage one: run a backbone once over a dataset's images and seal its tokens in a store."""

from bddn.extract.extraction import Extraction, extract

__all__ = ["Extraction", "extract"]
