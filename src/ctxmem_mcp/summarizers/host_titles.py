"""Titles of sections that only the agent's host wrote: they name its text. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctxmem_mcp.models import Turn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.base import HOST_PREFIX
from ctxmem_mcp.summarizers.headlines import as_title
from ctxmem_mcp.summarizers.sentences import HEAD_CHARS, one_line
from ctxmem_mcp.summarizers.title_options import TITLE_CHARS

# The text of a notification, a heading, or the lead of a hook's note.
_SUMMARY = lazy_regex(r"<summary>\s*(\S.{3,200}?)\s*</summary>", re.S)
_HEADING = lazy_regex(r"^#{1,3} +(\S.{3,160})$", re.M)
_HOOK = lazy_regex(r"\b([A-Z]\w+:\w+ hook) additional context:\s*(\[[^\]\n]{1,40}\])?")
_PATTERNS = (_SUMMARY, _HEADING, _HOOK)


def host_title(turns: Sequence[Turn]) -> str:
    """Returns a title made of the host's text, with its prefix; empty if the turns name nothing."""
    own = [turn.content[:HEAD_CHARS] for turn in turns if turn.role == "system"]
    for pattern in _PATTERNS:
        for content in own:
            if found := pattern.search(content):
                text = one_line(" ".join(part for part in found.groups() if part))
                return HOST_PREFIX + as_title(text, TITLE_CHARS - len(HOST_PREFIX))
    return f"{HOST_PREFIX}system prompt" if own and not any(turn.role != "system" for turn in turns) else ""
