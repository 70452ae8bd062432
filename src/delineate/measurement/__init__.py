"""Findings for people who plan an operation: sizes, diameters, distances and shares of structures and lesions."""

from delineate.measurement.structures import measure_structures

__all__ = ["measure_structures"]
