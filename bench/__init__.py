"""Benchmarks of the package from the outside, beside baselines in the same run. Not part of the package."""
