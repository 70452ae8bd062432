"""Surfaces of structures, in and out of files."""
