"""A second opinion on a run, by brute force: `bddn check`."""
