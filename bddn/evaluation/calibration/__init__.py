"""Slopes and depths of a run against planted ones: `bddn calibrate`."""
