"""A lab's own data, described by a YAML file: kind `table`."""
