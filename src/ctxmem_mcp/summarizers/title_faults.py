"""Finds texts that say too little as titles: items of lists, places in files, sentences without their end. Pure."""

from __future__ import annotations

import re

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers import requests
from ctxmem_mcp.summarizers.lead_ins import starts_with_change

# A place in a file: "(`auto_commit.go:992-1098`)".
_PLACE = lazy_regex(r"\.\w{1,5}:\d+\b|\b[Ll]ines? \d+|\bL\d+\b")
# The item of a list with a name of the code: "Strategy-specific setup (`EnsureSetup()`)", "Subcommands - `clean`".
_NAMED_ITEM = lazy_regex(
    r"\A[^.!?;]{2,50}? (?:[-–—] ?|\()`[^`]+`\)?\Z|\A`[^`]+` ?[:=] ?\S+\Z|\A`?[\w./-]+\.\w{1,5}`? [-–—] "
)
_ARROW = lazy_regex(r"\A`[^`]+` ?(?:→|->|=>)")
_WITHIN = lazy_regex(r"\A(?:during|within|among|per|once|until|unless)\b", re.I)
# What cannot end a sentence: "orphaned items include", "the helper is called".
_LOST_OBJECT = lazy_regex(
    r"\b(?:includes?|even when|(?:will|would|should|now|also) show|comes?|contains?|means?|needs? to|has|"
    r"takes?|allows?|requires?|(?:we|I) (?:have )?successfully|"
    r"(?:is|are|was|were) (?:\w+ )?(?:called|used|based|(?:currently|always|being) \w+))\Z"
)
# What cannot end one that was cut.
_CUT_OBJECT = lazy_regex(
    r"\b(?:needs?|have|returns?|happens?|runs?|goes|creates?|uses|gets?|calls|reads|"
    r"(?:is|are|was|were) (?:\w+ )?(?:created|stored|set|made|done|added|read|written|needed|defined|imported|"
    r"found|moved))\Z"
)
_CUT_PURPOSE = lazy_regex(r"\bto [a-z]+\Z")
_VAGUE_ENDS = frozenset(
    """it this that these those them they instead again too either then there here both one ones so more""".split()
)
# Only the end of a text is searched for what cannot end it.
_END_CHARS = 48


def is_fragment(title: str, text: str) -> bool:
    """Returns whether a title names only a place or an item of a list, or is a sentence without its end.

    Args:
        title: The title.
        text: The text that it was cut from.
    """
    is_order = requests.starts_with_verb(title) or starts_with_change(title)
    if not is_order and (_PLACE.search(title) or _NAMED_ITEM.match(title)):
        return True
    if _WITHIN.match(title) and "," not in title:
        return True
    if _ARROW.match(title) or lost_its_end(title):
        return True
    end = max(0, len(title) - _END_CHARS)
    return len(title) < len(text) and (_CUT_PURPOSE if is_order else _CUT_OBJECT).search(title, end) is not None


def lost_its_end(text: str) -> bool:
    """Returns whether a text says nothing without what followed it: "The command will now show"."""
    return _LOST_OBJECT.search(text, max(0, len(text) - _END_CHARS)) is not None


def ends_vaguely(title: str) -> bool:
    """Returns whether a title ends with a word that points to what another one names: "Use it instead"."""
    text = title.lower().rstrip(" .,;:!?…)`\"'")
    return text.rsplit(" ", 1)[-1] in _VAGUE_ENDS or text.endswith(" as well")
