"""Frozen networks: pictures in, tokens of their layers out."""
