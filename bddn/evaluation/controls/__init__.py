"""Controls of a fit on the same images, voxels and split: `bddn controls`."""
