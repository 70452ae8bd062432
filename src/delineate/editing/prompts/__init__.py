"""Pointing at a structure by clicks, scribbles or a box, and the mask that is proposed for it, without a network."""
