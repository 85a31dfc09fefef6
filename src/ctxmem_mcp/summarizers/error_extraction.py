"""Extracts errors from tool output verbatim, or the line that reports success. Pure.

The cost is bounded on any output: both ends are read line by line, the middle only around error markers.
"""

from __future__ import annotations
