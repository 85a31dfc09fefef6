"""Synthetic coding sessions, generated from the sources and docstrings of the Python standard library.

A session repeats: a request, some tool calls with their results, a reply. Turns average about 200 tokens, as in
recorded sessions. The prose was written by people (docstrings), the code is real, and no line is used twice.
"""

from __future__ import annotations

import json
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ctxmem_mcp.models import NewTurn

# The lines of a file that a call shows: about 450 tokens.
SHOWN_LINES = (18, 90)
_REQUESTS = (
    "Can you check how {name} works? {words}",
    "{words} Please fix that in {file}.",
    "Why does {name} do this? {words}",
    "Let's change {name} in {file}. {words}",
    "The tests of {name} fail since yesterday, please look. {words}",
)
_REPLIES = (
    "I've looked at `{name}` in {file}. {words}",
    "Fixed: `{name}` now does what it says. {words}",
    "The cause was in {file}: {words}",
    "Done. {words} I also updated `{name}`.",
)
_DOCSTRING = re.compile(r'"""(.{40,700}?)"""', re.DOTALL)
_DEFINITION = re.compile(r"(?:def|class) (\w{4,})")


def turns(count: int, seed: int = 1) -> Iterator[NewTurn]:
    """Yields `count` turns, a minute apart."""
    rng = random.Random(seed)
    messages = _session(rng, _windows(rng))
    for i in range(count):
        role, content, name, call_id = next(messages)
        minute = f"2026-{1 + i // 40_320 % 12:02d}-{1 + i // 1_440 % 28:02d}T{i // 60 % 24:02d}:{i % 60:02d}:00Z"
        yield NewTurn(role, content, name, minute, call_id)  # type: ignore[arg-type]


_Message = tuple[str, str, str | None, str | None]


def _session(rng: random.Random, windows: Iterator[tuple[str, int, str]]) -> Iterator[_Message]:
    calls, name, prose = 0, "main", ["It is not what the documentation says."]
    while True:
        file, line, shown = next(windows)
        prose, name = [*prose[-2:], _docstring(shown) or prose[-1]], _defined_name(shown) or name
        yield "user", rng.choice(_REQUESTS).format(name=name, file=file, words=prose[-1]), None, None
        for _ in range(rng.randint(2, 4)):
            calls += 1
            tool, arguments, result = rng.choice((_read_call, _read_call, _edit_call, _test_call))(
                file, line, shown, name
            )
            yield "assistant", arguments, tool, f"call_{calls}"
            yield "tool", result, None, f"call_{calls}"
            file, line, shown = next(windows)
            prose, name = [*prose[-2:], _docstring(shown) or prose[-1]], _defined_name(shown) or name
        words = "\n\n".join(dict.fromkeys(prose))
        yield "assistant", rng.choice(_REPLIES).format(name=name, file=file, words=words), None, None


def _docstring(shown: str) -> str:
    """The docstring in the lines shown, on one line."""
    found = _DOCSTRING.search(shown)
    return " ".join(found[1].split()) if found else ""


def _defined_name(shown: str) -> str:
    found = _DEFINITION.search(shown)
    return found[1] if found else ""


def _read_call(file: str, line: int, shown: str, name: str) -> tuple[str, str, str]:
    numbered = "\n".join(f"{line + i:6d}\t{text}" for i, text in enumerate(shown.split("\n")))
    return "Read", json.dumps({"file_path": f"/repo/{file}", "offset": line, "limit": shown.count("\n") + 1}), numbered


def _edit_call(file: str, line: int, shown: str, name: str) -> tuple[str, str, str]:
    lines = shown.split("\n")[:24]
    changed = [text.replace(name, f"{name}_checked") for text in lines]
    arguments = {"file_path": f"/repo/{file}", "old_string": "\n".join(lines[:12]), "new_string": "\n".join(changed)}
    return "Edit", json.dumps(arguments), f"The file /repo/{file} has been updated at line {line}."


def _test_call(file: str, line: int, shown: str, name: str) -> tuple[str, str, str]:
    frame = "\n".join(shown.split("\n")[:16])
    output = f"{file}:{line}: in test_{name}\n{frame}\nE   AssertionError: {name} gave None\n1 failed, {line} passed"
    return "Bash", json.dumps({"command": f"python -m pytest -x {file} -k {name}"}), output


def _windows(rng: random.Random) -> Iterator[tuple[str, int, str]]:
    """Yields (file, first line, lines) over all sources. Each round over them starts at a different line of a file."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(file for file in root.rglob("*.py") if "site-packages" not in file.parts)
    rng.shuffle(files)
    for shift in range(0, 1_000, 7):
        for file in files:
            try:
                lines = file.read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError):
                continue
            at = shift
            while at + SHOWN_LINES[0] < len(lines):
                stop = at + rng.randint(*SHOWN_LINES)
                if shown := "\n".join(lines[at:stop])[:4_000].strip("\n"):
                    yield str(file.relative_to(root)), at + 1, shown
                at = stop


def questions(count: int, among: int, seed: int = 7) -> list[str]:
    """Returns questions with the names and rare words of turns sampled from the first `among`."""
    sampled = set(random.Random(seed).sample(range(among), min(count * 2, among)))
    found = []
    for i, turn in enumerate(turns(among)):
        if i in sampled and (words := re.findall(r"[A-Za-z_]{5,}", turn.content)):
            found.append(
                "What did we find about "
                + " and ".join(sorted(set(words), key=lambda word: (len(word), word))[-4:])
                + "?"
            )
    return found[:count]
