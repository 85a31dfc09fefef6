"""Evidence: is it, verbatim, in a text; and which pieces hold it."""

from __future__ import annotations

from typing import Any

from bench.train.corpus import Prepared

LONG_TURN_CHARS = 4_000
SHORT_LINE_CHARS = 400


def verbatim(content: str, text: str) -> bool:
    """The whole content; of a long one, every line that is not itself very long."""
    content = content.strip()
    if content in text:
        return True
    lines = [line.strip() for line in content.splitlines() if len(line) < SHORT_LINE_CHARS]
    return len(content) > LONG_TURN_CHARS and all(line in text for line in lines)


def recall(conversation: Prepared, question: dict[str, Any], text: str) -> float:
    hits = [
        (e["text"] in text) if e["text"]
        else verbatim(conversation.turns[conversation.by_id[e["turn"]]]["content"], text)
        for e in question["evidence"]
    ]  # fmt: skip
    return sum(hits) / len(hits)


def answering(conversation: Prepared, question: dict[str, Any]) -> list[list[int]]:
    """Per piece of evidence, the ordinals of the pieces that hold it or most of it."""
    of_turn: dict[int, list[int]] = {}
    for f in conversation.facts:
        of_turn.setdefault(f.turn, []).append(f.ordinal)
    found = []
    for e in question["evidence"]:
        turn = conversation.by_id[e["turn"]]
        ordinals = of_turn.get(turn, [])
        if e["text"] and len(ordinals) > 1:
            at = conversation.turns[turn]["content"].find(e["text"])
            spans = [(o, conversation.facts[o].start, conversation.facts[o].start + len(conversation.texts[o]))
                     for o in ordinals]  # fmt: skip
            ordinals = [o for o, start, stop in spans if start < at + len(e["text"]) and stop > at] or ordinals
        found.append(ordinals)
    return found
