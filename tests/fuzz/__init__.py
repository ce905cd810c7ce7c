"""Input that nobody would think of, by hypothesis: one table of properties, for CI and for a long night."""
