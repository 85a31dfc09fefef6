"""Other memories, measured on the same work; see `python -m bench.scale.neighbours --help`."""
