"""LAION-fMRI as downloaded: kind `laion`."""
