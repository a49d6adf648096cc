"""Speed, measured: layers, steps and studies, each against a named peer in the same run."""
