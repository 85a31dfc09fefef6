"""The command that `install` registers, and how it is recognised, also as people or older versions wrote it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from ctxmem_mcp.patterns import lazy_regex

System = Literal["linux", "macos", "windows"]

NAME = "ctxmem"
PROGRAM = "ctxmem-mcp"
MODULE = "ctxmem_mcp"
_DATA_DIR, _DATA_DIR_ENV = "--data-dir", "CTXMEM_DATA_DIR"
_RUNNERS = ("uvx", "uv", "pipx", "pip-run")
# What separates commands in a line; commands that only set the exit code; a variable that is set for one command.
_SEPARATORS = ";&|\n"
_NO_OPS = (["true"], [":"], ["exit", "0"])
_ASSIGNMENT = lazy_regex(r"\w+=", re.ASCII)
_SAFE_IN_WINDOWS = lazy_regex(r"[\w.:/\\~-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """The server to register.

    Attributes:
        command: the program's absolute path.
        data_dir: the data folder; None for the default one.
        system: the system whose shells run the hooks.
    """

    command: str
    data_dir: str | None = None
    system: System = "linux"

    @property
    def arguments(self) -> list[str]:
        return [_DATA_DIR, self.data_dir] if self.data_dir else []

    def hook_arguments(self, agent: str, *options: str) -> list[str]:
        """Returns the arguments of an agent's hook. options: those of its own."""
        return ["hook", agent, *options, *self.arguments]

    def hook_line(self, agent: str, *options: str, by_bash: bool = False) -> str:
        """Returns the command line of an agent's hook. options: those of its own; by_bash: a bash runs it, on Windows
        too, and strips backslashes."""
        words = [self.command, *self.hook_arguments(agent, *options)]
        if self.system != "windows":
            return shlex.join(words)
        return " ".join(_quote_for_windows(word.replace("\\", "/") if by_bash else word) for word in words)


def _quote_for_windows(word: str) -> str:
    # Only if necessary: PowerShell takes a quoted first word for a string, not for a command.
    return word if _SAFE_IN_WINDOWS.fullmatch(word) else f'"{word}"'


def command_words(entry: Any) -> list[str]:
    """Returns the command line of a server's entry; nothing if it has none.

    The command is a string beside its arguments, a whole line, or a list with its arguments (opencode).
    """
    if not isinstance(entry, Mapping):
        return []
    command, given = entry.get("command", entry.get("cmd")), entry.get("args")
    words = [word for word in given if isinstance(word, str)] if isinstance(given, list) else []
    if isinstance(command, list):
        return [word for word in command if isinstance(word, str)]
    return [command, *words] if isinstance(command, str) else []


def is_our_server(entry: Any) -> bool:
    """Whether a server's entry starts this program, directly or through a runner."""
    words = command_words(entry)
    is_line = len(words) == 1 and isinstance(entry.get("command"), str)
    return _starts_this_program(words) or (is_line and _starts_this_program(shlex_words(words[0])))


def is_our_hook(line: Any) -> bool:
    """Whether a hook's command line calls this program's hook and does nothing else."""
    first, *rest = _commands(line) or [[]]
    return is_our_call(first) and all(command in _NO_OPS for command in rest)


def find_our_call(line: Any) -> list[str]:
    """Returns the words of our hook's call in a command line, also if a person added other commands; else nothing."""
    for words in _commands(line):
        call = words[next((i for i, word in enumerate(words) if not _ASSIGNMENT.match(word)), 0) :]
        if is_our_call(call):
            return call
    return []


def is_our_call(words: Sequence[str]) -> bool:
    """Whether these words of a command call this program's hook."""
    return "hook" in words and _starts_this_program(words)


def _starts_this_program(words: Sequence[str]) -> bool:
    if not words:
        return False
    program = _stem(words[0])
    return (
        program == PROGRAM
        or (program in _RUNNERS and PROGRAM in words)
        or any(pair == ("-m", MODULE) for pair in pairwise(words))
    )


def _stem(word: str) -> str:
    name = re.split(r"[\\/]", word)[-1].lower()
    return re.sub(r"\.(exe|cmd|bat)$", "", name)


def shlex_words(line: str) -> list[str]:
    """Returns the words of a Unix or Windows command line; none if it can't be split."""
    try:
        words = shlex.split(with_forward_slashes(line))
    except ValueError:
        return []
    return words[1:] if words[:1] == ["&"] else words


def _commands(line: Any) -> list[list[str]]:
    """The words of each command in a command line."""
    if not isinstance(line, str):
        return []
    reader = shlex.shlex(with_forward_slashes(line), posix=True, punctuation_chars=_SEPARATORS + "<>()")
    reader.whitespace, reader.whitespace_split, reader.commenters = " \t\r", True, ""
    commands: list[list[str]] = [[]]
    try:
        for word in reader:
            if set(word) <= set(_SEPARATORS):
                commands.append([])
            else:
                commands[-1].append(word)
    except ValueError:
        return []
    return [command for command in commands if command]


def with_forward_slashes(line: str) -> str:
    """Returns a Windows path or command line with forward slashes."""
    return line.replace("\\", "/") if re.search(r"[A-Za-z]:\\|\\\w", line) else line


def data_dir_of(entry: Any) -> str | None:
    """Returns the data folder that a server's entry names, as an argument or in its environment; None if it names
    none."""
    if not isinstance(entry, Mapping):
        return None
    environment = entry.get("env", entry.get("environment"))
    words = command_words(entry) or entry.get("args") or []
    if len(words) == 1:
        words = shlex_words(words[0])
    for i, word in enumerate(words):
        if word == _DATA_DIR and i + 1 < len(words):
            return str(words[i + 1])
        if isinstance(word, str) and word.startswith(f"{_DATA_DIR}="):
            return word.partition("=")[2]
    given = environment.get(_DATA_DIR_ENV) if isinstance(environment, Mapping) else None
    return given if isinstance(given, str) and given else None
