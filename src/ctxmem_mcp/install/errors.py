"""The error of the pure editing functions."""

from __future__ import annotations


class CannotEdit(ValueError):
    """A file can't be edited; nothing was changed. The message continues a sentence that starts with its path."""
