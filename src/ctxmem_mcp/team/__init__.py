"""Several principals on one server: their tokens, the spaces that they share, limits, and the audit."""
