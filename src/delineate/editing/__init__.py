"""Changes to masks by hand: what a change is, how it is undone, and the tools that make one.

Pure functions on arrays and spacings: a tool gives the changed array or mask, `runs` says what differs.
"""
