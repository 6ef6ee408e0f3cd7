"""Tools for a developer machine."""
