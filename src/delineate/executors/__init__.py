"""Where work runs: so far in a process of its own, under supervision."""
