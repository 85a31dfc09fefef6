"""Measures the product from outside, beside plain ways of doing the same, in one run. Not part of the package."""
