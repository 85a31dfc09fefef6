"""python -m bench scale: what grows with a conversation, and with the number of conversations. See `command`."""

from __future__ import annotations

from bench.scale.command import main

__all__ = ["main"]
