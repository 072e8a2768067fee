"""Image sets with classes, for fine-tuning: one class for each image, and no responses."""
