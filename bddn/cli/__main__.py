"""`python -m bddn.cli`."""

import sys

from bddn.cli import app

if __name__ == "__main__":
    sys.exit(app(prog_name="bddn"))
