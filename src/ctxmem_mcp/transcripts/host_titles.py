"""Reads the title that a host gave a session, if a model's raw output stands in its place. Pure."""

from __future__ import annotations

import json
import re

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.json_lines import text_or_none

_REASONING = lazy_regex(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.S)
_TAGGED = lazy_regex(r"<title>(.*?)(?:</title>|\Z)", re.S)
_FENCED = lazy_regex(r"\A\s*```\w*\n(.*?)(?:\n```\s*\Z|\Z)", re.S)
# The field of an object that was cut off.
_FIELD = lazy_regex(r'"title"\s*:\s*"((?:[^"\\]|\\.)+)"')
_LABEL = lazy_regex(r"\A(?:session |conversation )?title:\s+", re.I)


def plain_title(title: str | None) -> str | None:
    """Returns a host's title as plain text: the field `title` of a JSON object; None if the object has none."""
    if not title:
        return None
    text = _REASONING.sub("", title)
    if fenced := _FENCED.match(text):
        text = fenced[1]
    text = text.strip()
    if text.startswith(("{", "[{")):
        return _title_in_json(text)
    if tagged := _TAGGED.search(text):
        text = tagged[1].strip()
    return _LABEL.sub("", text) or None


def _title_in_json(text: str) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        found = _FIELD.search(text)
        return found[1] if found else None
    if isinstance(value, list):
        value = value[0]
    return text_or_none(value.get("title")) if isinstance(value, dict) else None
