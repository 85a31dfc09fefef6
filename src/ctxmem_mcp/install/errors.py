"""Why a file can't be edited."""

from __future__ import annotations


class CannotEdit(ValueError):
    """Says it in words that follow the file's path: "is not JSON ...". Nothing was changed."""
