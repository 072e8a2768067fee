"""The Natural Scenes Dataset as downloaded: kind `nsd`."""
