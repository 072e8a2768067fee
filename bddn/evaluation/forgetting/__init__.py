"""What networks forget of the brain when they are trained further: for pipelines, and for `bddn diagnose`."""
