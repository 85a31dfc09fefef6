"""python -m bench replaced [--misses]

Measures how often a statement is rightly recognised as the replacement of an earlier one (text/replacements.py).

The pairs are in bench/data/replaced.json: half of them replacements, half near misses. Some are written for this
benchmark; the others are places in the conversations of $CTXMEM_EVAL_DIR and are left out without it. A third of them,
by a hash of their ids, is unseen: the rules were not fitted to it, so print its misses only to report them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ctxmem_mcp.text.language import detect
from ctxmem_mcp.text.replacements import replaces, statement

PAIRS = Path(__file__).parent / "data" / "replaced.json"
UNSEEN_OF = 3


class Pair(NamedTuple):
    name: str
    earlier: str
    later: str
    languages: tuple[str | None, str | None]
    is_replaced: bool

    @property
    def is_unseen(self) -> bool:
        return hashlib.blake2b(self.name.encode()).digest()[0] % UNSEEN_OF == 0

    @property
    def is_found(self) -> bool:
        earlier, later = (statement(text, name) for text, name in zip(self[1:3], self.languages, strict=True))
        return earlier is not None and later is not None and replaces(later, earlier)


def load_pairs() -> Iterator[Pair]:
    for pair in json.loads(PAIRS.read_text("utf-8")):
        earlier, later = _text(pair["earlier"]), _text(pair["later"])
        if earlier is not None and later is not None:
            languages = pair.get("language") or (detect(earlier), detect(later))
            yield Pair(pair["id"], earlier, later, tuple(languages), pair["replaced"])


def _text(place: str | dict[str, Any]) -> str | None:
    return place if isinstance(place, str) else _at(**place)


def _at(data: str, conversation: str, turn: int, start: int, stop: int) -> str | None:
    found = _conversations(data).get(conversation)
    return found[turn]["content"][start:stop] if found else None


@cache
def _conversations(data: str) -> dict[str, list[dict[str, Any]]]:
    path = Path(os.environ.get("CTXMEM_EVAL_DIR", ""), "data", f"{data}.jsonl.gz")
    if not path.exists():
        return {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return {one["id"]: one["turns"] for one in map(json.loads, lines)}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench replaced", description=__doc__)
    parser.add_argument("--misses", action="store_true", help="print the seen pairs that are judged wrongly")
    options = parser.parse_args(argv)
    pairs = list(load_pairs())
    for name, some in (("seen", [p for p in pairs if not p.is_unseen]), ("unseen", [p for p in pairs if p.is_unseen])):
        right = sum(pair.is_found and pair.is_replaced for pair in some)
        found, wanted = sum(pair.is_found for pair in some), sum(pair.is_replaced for pair in some)
        print(f"{name:8} pairs {len(some):3}  precision {right}/{found}  recall {right}/{wanted}")
    if options.misses:
        for pair in pairs:
            if not pair.is_unseen and pair.is_found != pair.is_replaced:
                print(f"{'missed' if pair.is_replaced else 'wrong'}  {pair.name}: {pair.earlier!r} -> {pair.later!r}")
