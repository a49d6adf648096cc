"""The settings of a run: the closed sets, parsed from plain data, and known by their content."""
