"""Evidence of questions: whether a text contains it verbatim, and which chunks contain it."""

from __future__ import annotations

from typing import Any

from bench.train.corpus import Prepared

LONG_TURN_CHARS = 4_000
SHORT_LINE_CHARS = 400


def verbatim(content: str, text: str) -> bool:
    """Returns whether a text contains a turn's content.

    Content over `LONG_TURN_CHARS` counts if the text contains each of its lines under `SHORT_LINE_CHARS`.
    """
    content = content.strip()
    if content in text:
        return True
    lines = [line.strip() for line in content.splitlines() if len(line) < SHORT_LINE_CHARS]
    return len(content) > LONG_TURN_CHARS and all(line in text for line in lines)


def recall(conversation: Prepared, question: dict[str, Any], text: str) -> float:
    """Returns the share of the question's evidence that the text contains."""
    hits = [any(_stands(conversation, one, text) for one in _alternatives(e)) for e in question["evidence"]]
    return sum(hits) / len(hits)


def _alternatives(evidence: dict[str, Any]) -> list[dict[str, Any]]:
    return [evidence, *evidence.get("or", ())]


def _stands(conversation: Prepared, evidence: dict[str, Any], text: str) -> bool:
    if evidence["text"]:
        return evidence["text"] in text
    return verbatim(conversation.turns[conversation.by_id[evidence["turn"]]]["content"], text)


def answering_pieces(conversation: Prepared, question: dict[str, Any]) -> list[list[int]]:
    """Returns, for each piece of evidence, the ordinals of the chunks that contain some of it or of an alternative."""
    of_turn: dict[int, list[int]] = {}
    for f in conversation.facts:
        of_turn.setdefault(f.turn, []).append(f.ordinal)
    return [
        sorted({o for one in _alternatives(e) for o in _ordinals(conversation, one, of_turn)})
        for e in question["evidence"]
    ]


def _ordinals(conversation: Prepared, e: dict[str, Any], of_turn: dict[int, list[int]]) -> list[int]:
    turn = conversation.by_id[e["turn"]]
    ordinals = of_turn.get(turn, [])
    if e["text"] and len(ordinals) > 1:
        at = conversation.turns[turn]["content"].find(e["text"])
        spans = [(o, conversation.facts[o].start, conversation.facts[o].start + len(conversation.texts[o]))
                 for o in ordinals]  # fmt: skip
        ordinals = [o for o, start, stop in spans if start < at + len(e["text"]) and stop > at] or ordinals
    return ordinals
