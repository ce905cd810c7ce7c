"""Where a run is seen: a notebook, a terminal, a pipe."""
