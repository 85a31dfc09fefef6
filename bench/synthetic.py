"""Coding sessions that anybody can have: made of the Python standard library's own sources and docstrings.

A session is a request, some tool calls with their results, an answer, and again; turns average about 200 tokens, as
in logged sessions. The prose is people's (docstrings), the code is real, and the same lines never come twice.
"""

from __future__ import annotations

import json
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ctxmem_mcp.models import NewTurn

# What a call shows of a file: about 450 tokens.
SHOWN_LINES = (18, 90)
_ASKED = (
    "Can you check how {name} works? {words}",
    "{words} Please fix that in {file}.",
    "Why does {name} do this? {words}",
    "Let's change {name} in {file}. {words}",
    "The tests of {name} fail since yesterday, please look. {words}",
)
_ANSWERED = (
    "I've looked at `{name}` in {file}. {words}",
    "Fixed: `{name}` now does what it says. {words}",
    "The cause was in {file}: {words}",
    "Done. {words} I also updated `{name}`.",
)
_PROSE = re.compile(r'"""(.{40,700}?)"""', re.DOTALL)
_NAMED = re.compile(r"(?:def|class) (\w{4,})")


def turns(how_many: int, seed: int = 1) -> Iterator[NewTurn]:
    """That many turns, dated a minute apart."""
    chance = random.Random(seed)
    made = _session(chance, _windows(chance))
    for i in range(how_many):
        role, content, name, call_id = next(made)
        minute = f"2026-{1 + i // 40_320 % 12:02d}-{1 + i // 1_440 % 28:02d}T{i // 60 % 24:02d}:{i % 60:02d}:00Z"
        yield NewTurn(role, content, name, minute, call_id)  # type: ignore[arg-type]


_Made = tuple[str, str, str | None, str | None]


def _session(chance: random.Random, windows: Iterator[tuple[str, int, str]]) -> Iterator[_Made]:
    calls, name, heard = 0, "main", ["It is not what the documentation says."]
    while True:
        file, line, shown = next(windows)
        heard, name = [*heard[-2:], _said(shown) or heard[-1]], _name(shown) or name
        yield "user", chance.choice(_ASKED).format(name=name, file=file, words=heard[-1]), None, None
        for _ in range(chance.randint(2, 4)):
            calls += 1
            tool, arguments, result = chance.choice((_read, _read, _edited, _tested))(file, line, shown, name)
            yield "assistant", arguments, tool, f"call_{calls}"
            yield "tool", result, None, f"call_{calls}"
            file, line, shown = next(windows)
            heard, name = [*heard[-2:], _said(shown) or heard[-1]], _name(shown) or name
        words = "\n\n".join(dict.fromkeys(heard))
        yield "assistant", chance.choice(_ANSWERED).format(name=name, file=file, words=words), None, None


def _said(shown: str) -> str:
    """The docstring in what is shown, as somebody would say it."""
    found = _PROSE.search(shown)
    return " ".join(found[1].split()) if found else ""


def _name(shown: str) -> str:
    found = _NAMED.search(shown)
    return found[1] if found else ""


def _read(file: str, line: int, shown: str, name: str) -> tuple[str, str, str]:
    numbered = "\n".join(f"{line + i:6d}\t{text}" for i, text in enumerate(shown.split("\n")))
    return "Read", json.dumps({"file_path": f"/repo/{file}", "offset": line, "limit": shown.count("\n") + 1}), numbered


def _edited(file: str, line: int, shown: str, name: str) -> tuple[str, str, str]:
    lines = shown.split("\n")[:24]
    changed = [text.replace(name, f"{name}_checked") for text in lines]
    given = {"file_path": f"/repo/{file}", "old_string": "\n".join(lines[:12]), "new_string": "\n".join(changed)}
    return "Edit", json.dumps(given), f"The file /repo/{file} has been updated at line {line}."


def _tested(file: str, line: int, shown: str, name: str) -> tuple[str, str, str]:
    frame = "\n".join(shown.split("\n")[:16])
    failed = f"{file}:{line}: in test_{name}\n{frame}\nE   AssertionError: {name} gave None\n1 failed, {line} passed"
    return "Bash", json.dumps({"command": f"python -m pytest -x {file} -k {name}"}), failed


def _windows(chance: random.Random) -> Iterator[tuple[str, int, str]]:
    """(file, first line, some lines of it) over all sources; later rounds over them begin elsewhere in each file."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(file for file in root.rglob("*.py") if "site-packages" not in file.parts)
    chance.shuffle(files)
    for shift in range(0, 1_000, 7):
        for file in files:
            try:
                lines = file.read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError):
                continue
            at = shift
            while at + SHOWN_LINES[0] < len(lines):
                stop = at + chance.randint(*SHOWN_LINES)
                if shown := "\n".join(lines[at:stop])[:4_000].strip("\n"):
                    yield str(file.relative_to(root)), at + 1, shown
                at = stop


def questions(how_many: int, among: int, seed: int = 7) -> list[str]:
    """Questions in the words of turns spread over the first `among`: names and rare words, as people ask."""
    wanted = set(random.Random(seed).sample(range(among), min(how_many * 2, among)))
    asked = []
    for i, turn in enumerate(turns(among)):
        if i in wanted and (words := re.findall(r"[A-Za-z_]{5,}", turn.content)):
            asked.append(
                "What did we find about "
                + " and ".join(sorted(set(words), key=lambda word: (len(word), word))[-4:])
                + "?"
            )
    return asked[:how_many]
