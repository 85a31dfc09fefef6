"""What kind of row a row of a Claude Code session file is, and in which order rows are read."""

from __future__ import annotations

from collections.abc import Iterable

from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none

MESSAGE_TYPES = ("user", "assistant", "tool_use", "tool_result")
# Row types that name the session, and the field with the name; the user's own title comes first.
TITLE_FIELDS = {"custom-title": "customTitle", "ai-title": "aiTitle", "summary": "summary"}
# Beginnings of texts that stand in a user's row though no user wrote them.
_INJECTED_PREFIXES = (
    "<system-reminder>", "<local-command-", "<bash-stdout>", "<bash-stderr>", "<task-notification>",
    "<agent-notification>", "<user-prompt-submit-hook>", "<ide_", "[Request interrupted by user",
    "Operation stopped by hook: ",
)  # fmt: skip
# The model that Claude Code names in the rows it writes in the assistant's place ("No response requested.").
_SYNTHETIC_MODEL = "<synthetic>"
# Compactions write `compact_boundary` and `microcompact_boundary`.
_BOUNDARY_SUFFIX = "compact_boundary"


def parent_uuid(row: Row) -> str | None:
    """Returns the id of the row's parent; across a compaction, of its logical parent."""
    return text_or_none(row.get("parentUuid")) or text_or_none(row.get("logicalParentUuid"))


def is_compaction(row: Row) -> bool:
    """Returns whether a row marks a compaction or is its recap.

    Such a row follows the row before it in the file. The parent it names may be any earlier one: the row before the
    first of those that were summarised, or, after a second compaction in one process, a row from before the first.
    """
    subtype = text_or_none(row.get("subtype")) or ""
    return bool(row.get("isCompactSummary")) or (row.get("type") == "system" and subtype.endswith(_BOUNDARY_SUFFIX))


def is_prompt(row: Row) -> bool:
    """Returns whether a row starts an exchange: the user's, not a tool's result, nor written or queued by the host."""
    if row.get("type") != "user" or not row.get("uuid") or not isinstance(row.get("message"), dict):
        return False
    content = row["message"].get("content")
    return isinstance(content, str | list) and not _has_result(content) and not is_host_written(row)


def is_host_written(row: Row) -> bool:
    """Returns whether the host wrote a row of its own accord, rather than to record what someone said."""
    if row.get("type") not in MESSAGE_TYPES:
        return True
    message = row.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if row.get("type") == "assistant":
        return is_hosts_answer(row)
    if row.get("type") != "user" or _has_result(content):
        return False
    return bool(row.get("isMeta") or row.get("isCompactSummary")) or is_notification(row) or _is_injected(content)


def is_hosts_answer(row: Row) -> bool:
    """Returns whether an assistant row holds the host's words: an API error, or a stand-in for an answer."""
    message = row.get("message")
    return bool(row.get("isApiErrorMessage")) or (
        isinstance(message, dict) and message.get("model") == _SYNTHETIC_MODEL
    )


def is_notification(row: Row) -> bool:
    """Returns whether a user row announces that a background task has ended."""
    origin = row.get("origin")
    return isinstance(origin, dict) and origin.get("kind") == "task-notification"


def is_injected_text(text: str) -> bool:
    """Returns whether a text in a user's row begins as the host's texts do."""
    return text.lstrip().startswith(_INJECTED_PREFIXES)


def _has_result(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )


def _is_injected(content: object) -> bool:
    if isinstance(content, str):
        return is_injected_text(content)
    if not isinstance(content, list) or not content:
        return False
    return all(
        isinstance(block, dict) and isinstance(block.get("text"), str) and is_injected_text(block["text"])
        for block in content
    )


def in_parent_order(numbered: Iterable[NumberedRow]) -> list[NumberedRow]:
    """Returns the rows in file order, but none before its parent: one that is above its parent follows it at once.

    Claude Code 2.1.97 wrote 3% of the results above their calls.
    """
    rows = list(numbered)
    first: dict[str, int] = {}
    for at, (_, row) in enumerate(rows):
        if uuid := text_or_none(row.get("uuid")):
            first.setdefault(uuid, at)
    waiting: dict[str, list[int]] = {}
    for at, (_, row) in enumerate(rows):
        parent = None if is_compaction(row) else text_or_none(row.get("parentUuid"))
        if parent and first.get(parent, -1) > at:
            waiting.setdefault(parent, []).append(at)
    held = {at for children in waiting.values() for at in children}
    order = [at for start in range(len(rows)) if start not in held for at in _with_waiting(start, rows, waiting)]
    # Rows that are each other's parents stay where the file ends.
    return [rows[at] for at in [*order, *sorted(set(range(len(rows))) - set(order))]]


def _with_waiting(start: int, rows: list[NumberedRow], waiting: dict[str, list[int]]) -> list[int]:
    found, stack = [], [start]
    while stack:
        at = stack.pop()
        found.append(at)
        stack += reversed(waiting.pop(text_or_none(rows[at][1].get("uuid")) or "", []))
    return found
