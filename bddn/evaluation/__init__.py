"""What the numbers of finished runs are worth: scores on test images, second opinions, and what else judges a run."""
