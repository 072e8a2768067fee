"""Weights: found on this machine, downloaded by `bddn fetch`, and loaded into networks."""
