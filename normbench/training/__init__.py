"""One run: the loop, the step and what they stand on."""
