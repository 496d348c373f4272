"""The exact command behind every number the project states."""
