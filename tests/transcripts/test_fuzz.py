"""Any file, however wrong its values or its bytes are, is parsed or refused with InvalidArgument, and quickly.

The long form takes `CTXMEM_FUZZ_SECONDS` for all formats together: `CTXMEM_FUZZ_SECONDS=3600 pytest -m soak
tests/transcripts/test_fuzz.py`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections.abc import Iterator

import pytest

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import Transcript
from tests.fuzz.values import damage
from tests.transcripts.chats import ENCODERS, Encoder, Step

STEPS = [
    Step("user", "Hello there."), Step("thinking", "Hm."), Step("call", '{"command": "ls"}', "a.py"),
    Step("assistant", "Two files."), Step("user", "Thanks."), Step("call", "ls", "b"), Step("assistant", "Done."),
]  # fmt: skip
# A file of this size that takes longer is a file that grows without limit for somebody.
SECONDS_MAX = 30


def texts(encoder: Encoder) -> Iterator[str]:
    """Yields endless variants of a file: wrong values, missing fields, moved parts, broken bytes."""
    steps = [step for step in STEPS if step.kind in encoder.kinds]
    text = encoder.encode(steps)
    dice = random.Random(encoder.encode.__name__)
    while True:
        if encoder.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line]
            damage(rows, dice)
            found = "\n".join(map(json.dumps, rows))
        else:
            holder = [json.loads(text)]
            damage(holder, dice)
            found = json.dumps(holder[0] if holder else None)
        yield _broken(found, dice) if dice.random() < 0.3 else found


def _broken(text: str, dice: random.Random) -> str:
    at, to = sorted(dice.randrange(len(text) + 1) for _ in range(2))
    return dice.choice((text[:at], text[:at] + text[to:], text[:to] + text[at:], text[:at] + '\0{["' + text[at:]))


def parse(text: str, encoder: Encoder) -> Transcript | None:
    began = time.monotonic()
    try:
        found = registry.parse(text, f"chat{encoder.suffix}")
    except InvalidArgument:
        found = None
    assert time.monotonic() - began < SECONDS_MAX, text
    for transcript in () if found is None else (found, *found.threads):
        for turn in (*transcript.turns, *(turn for branch in transcript.abandoned_branches for turn in branch)):
            assert turn.role in ("user", "assistant", "system", "tool"), text
            turn.content.encode()
            assert turn.call_id != "\0", text
    return found


@pytest.mark.parametrize("encoder", ENCODERS, ids=[f"{e.agent}-{e.encode.__name__}" for e in ENCODERS])
def test_no_file_breaks_a_parser(encoder: Encoder) -> None:
    for _, text in zip(range(100), texts(encoder), strict=False):
        parse(text, encoder)


@pytest.mark.soak
def test_no_file_breaks_a_parser_for_long() -> None:
    end = time.monotonic() + float(os.environ.get("CTXMEM_FUZZ_SECONDS", "600"))
    sources = [(encoder, texts(encoder)) for encoder in ENCODERS]
    count, failures = 0, dict[tuple[str, str, int | None], tuple[str, str]]()
    while time.monotonic() < end:
        for encoder, variants in sources:
            text = next(variants)
            count += 1
            try:
                parse(text, encoder)
            except Exception as error:  # Goes on, so that one run finds every fault.
                place = traceback.extract_tb(error.__traceback__)[-1]
                failures.setdefault((encoder.encode.__name__, place.filename, place.lineno), (repr(error), text))
    sys.stderr.write(f"{count:,} files, {count // len(sources):,} of each of {len(sources)} formats\n")
    assert not failures
