"""Findings for people who plan an operation: sizes, diameters, distances and shares of structures and lesions."""
