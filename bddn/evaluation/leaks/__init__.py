"""Audits of splits: images that occur in two parts. `bddn audit`."""
