"""What networks forget of the brain when they are trained further: `bddn forgetting`."""
