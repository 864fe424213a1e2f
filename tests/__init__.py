"""A package, because one of our dependencies installs a top-level ``tests`` of its own, which would be found first."""
