"""bddn: brain-to-network maps for any vision model."""

import os

__version__ = "0.1.0"

# large pages for torch's tensors: tokens by the gigabyte are read and gathered much faster
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
