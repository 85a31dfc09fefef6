"""The ways through a Claude Code session: the conversation as it stands, and those that a rewind left behind.

A rewind shows as a prompt whose parent was answered by another prompt before. Between two prompts rows stay in file
order: parallel calls branch there, and every branch was said.
"""

from __future__ import annotations

from ctxmem_mcp.transcripts.json_lines import Row, text_of

_Numbered = tuple[int, Row]


def ways(numbered: list[_Numbered]) -> list[list[_Numbered]]:
    """From the first prompt to each last one, rows in file order; the way to the file's end comes last."""
    if not numbered:
        return [[]]
    placed, before = sections(sorted(numbered, key=lambda pair: pair[0]))
    end = placed[-1][0]
    followed = {section for section in before.values() if section is not None}
    ends = [section for section in before if section not in followed and section != end]
    found = []
    for last in [*ends, end]:
        kept = _way(before, last)
        found.append([pair for section, pair in placed if section in kept])
    return found


def sections(numbered: list[_Numbered]) -> tuple[list[tuple[int, _Numbered]], dict[int, int | None]]:
    """Each row with the section it stands in, a prompt and what follows it named by the prompt's line; and of each
    section the one before it. A row whose parent is not there goes with the row before it in the file."""
    section_of: dict[str, int] = {}
    before: dict[int, int | None] = {}
    placed: list[tuple[int, _Numbered]] = []
    here: int | None = None
    for line, row in numbered:
        parent = text_of(row.get("parentUuid")) or text_of(row.get("logicalParentUuid")) or ""
        uuid = text_of(row.get("uuid"))
        section = section_of.get(parent, here)
        if section is None or is_prompt(row):
            before[line] = section
            section = line
        if uuid:
            section_of[uuid] = section
        if uuid or here is None:
            here = section
        placed.append((section, (line, row)))
    return placed, before


def _way(before: dict[int, int | None], last: int | None) -> set[int]:
    kept: set[int] = set()
    while last is not None and last not in kept:
        kept.add(last)
        last = before.get(last)
    return kept


def is_prompt(row: Row) -> bool:
    """A user's row that begins something: no result of a tool, nothing that the host put in or kept waiting."""
    message = row.get("message")
    if row.get("type") != "user" or row.get("isMeta") or not row.get("uuid") or not isinstance(message, dict):
        return False
    content = message.get("content")
    if isinstance(content, list):
        return not any(isinstance(block, dict) and block.get("type") == "tool_result" for block in content)
    return isinstance(content, str)
