"""Inspect AI's logs: a thread for each sample, its messages nearly OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row
from ctxmem_mcp.transcripts.parts import PartTypes, text_at, value_at

_FIELDS = Fields()
_PARTS = PartTypes(thinking={"reasoning": "reasoning"})


def _samples(value: object) -> list[Row]:
    one = isinstance(value, dict) and "messages" in value and "epoch" in value
    return [value] if one and isinstance(value, dict) else [row for _, row in objects(value_at(value, "samples"))]


def _is_own(value: object) -> bool:
    return any(isinstance(row.get("messages"), list) and ("epoch" in row or "scores" in row) for row in _samples(value))


def _read(reader: Reader, value: object) -> list[Chat]:
    return [
        Chat(
            [reader.message(n, row, _turns(row), _FIELDS) for n, row in objects(sample["messages"])], _id(value, sample)
        )
        for sample in _samples(value)
        if isinstance(sample.get("messages"), list)
    ]


def _id(value: object, sample: Row) -> str:
    """Returns an id of the sample: those in a log count from 1."""
    run = text_at(sample, "uuid") or text_at(value, "eval.run_id") or ""
    return "-".join(filter(None, (run, text_at(sample, "id"), text_at(sample, "epoch"))))


def _turns(row: Row) -> Iterator[NewTurn]:
    role, name = _FIELDS.author(row)
    if role == "tool":
        texts = [turn.content for turn in _PARTS.turns("tool", row.get("content"))]
        error = text_at(row, "error.message")
        text = "\n".join([*texts, *([error] if error else [])])
        yield NewTurn("tool", text, text_at(row, "function"), None, text_at(row, "tool_call_id"))
        return
    yield from _PARTS.turns(role, row.get("content"), None, name)
    for _, call in objects(row.get("tool_calls")):
        tool = text_at(call, "function.name") or text_at(call, "function")
        arguments = call.get("arguments", value_at(call, "function.arguments"))
        yield NewTurn("assistant", text_or_json(arguments or ""), tool, None, text_at(call, "id"))


looks_like, parse = json_document("inspect-ai", _is_own, _read)
