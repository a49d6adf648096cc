"""A study: its grid, its cells, the plan of what is to be run, and the processes that run it."""
