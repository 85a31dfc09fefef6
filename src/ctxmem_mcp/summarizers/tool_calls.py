"""Parses tool calls in the notations of the agents' logs. Pure.

A call is a turn of its own. If the log kept the tool's name and the call's id, the content is the arguments: as JSON,
or as Markdown (SpecStory), with the command in backticks or a fence and paths and patterns in backticks. Otherwise the
content begins with the call: `Read {...}`, `$ make test`, `Edit src/a.py` and a diff.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from ctxmem_mcp.models import Turn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.sentences import one_line
from ctxmem_mcp.summarizers.shell_commands import main_line, only_prints

CallKind = Literal["edit", "read", "find", "run", "plan", "delegate", "other"]

# Longer arguments are not parsed as JSON: their first fields are found by pattern, so the cost stays bounded.
PARSE_CHARS = 40_000
_BARE_JSON = lazy_regex(r"\A([A-Za-z][\w.-]{1,60}) (?=\{)")
_BARE_PATH = lazy_regex(r"\A(Edit|MultiEdit|Write|NotebookEdit|Read|Update|Create) ([^\s{][^\n]{0,400})")
_FIELD = lazy_regex(r'"(\w{1,30})"\s*:\s*"((?:[^"\\]|\\.){0,4000})"')
_FENCED = lazy_regex(r"```\w*\n(.+?)(?:\n```|\Z)", re.S)
_COMMAND_LINE = lazy_regex(r"^`([^`\n]+)`$", re.M)
_BACKTICKS = lazy_regex(r"(?:\b(path|pattern) )?`([^`\n]{1,400})`")
_PATCHED_FILE = lazy_regex(r"^\*\*\* (?:Update|Add|Delete) File: (.+)$", re.M)
_DEFINITION = lazy_regex(
    r"(?:^|[^\w/#*])(?:(?:func(?:\s*\([^)\n]{1,80}\))?|def|function|fn)\s+([A-Za-z_]\w{2,80})\s*[(<\[]|"
    r"(?:class|struct|interface|trait|enum)\s+([A-Za-z_]\w{2,80})\s*[(:{<]|"
    r"type\s+([A-Za-z_]\w{2,80})\s+(?:struct|interface|=|func))"
)
_COMMAND_PREFIXES = lazy_regex(r"\A(?:cd\s+\S+\s*(?:&&|;|\n)\s*|(?:[A-Z_]+=\S*\s+)|sudo\s+|time\s+|timeout\s+\S+\s+)+")

_SCRATCH = lazy_regex(r"(?:\A|[\s=\"'])/(?:private/)?(?:tmp|var/folders)(?![\w.-])|\bmktemp\b")

_KINDS: tuple[tuple[CallKind, re.Pattern[str]], ...] = (
    ("plan", lazy_regex(r"todo|plan|task_?(?:create|update|list|get)|^skill$", re.I)),
    ("delegate", lazy_regex(r"^(?:task|agent|dispatch|task_?output|task_?stop|subagent)", re.I)),
    ("edit", lazy_regex(r"edit|write|patch|replace|insert|create_file|update_file", re.I)),
    ("run", lazy_regex(r"bash|shell|exec|terminal|command|^run|powershell|kill", re.I)),
    ("find", lazy_regex(r"grep|glob|find|search|list|^ls$|lsp", re.I)),
    ("read", lazy_regex(r"read|view|cat|open|fetch|get", re.I)),
)
_BARE_FILES = frozenset(
    "Makefile Dockerfile Justfile LICENSE README CODEOWNERS Gemfile Rakefile Procfile Jenkinsfile".split()
)
_PATH_FIELDS = ("file_path", "path", "filePath", "filename", "file", "notebook_path", "target_file", "relative_path")
_COMMAND_FIELDS = ("command", "cmd", "script", "code")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call.

    Attributes:
        path: The file it is about, else ''.
        command: The first line of its command that runs something, without `cd` and environment variables; else ''.
        subject: Its description, task, pattern, query or URL, else ''.
        text: Old and new text of an edit, from which the names it changes are read.
        is_scratch: Whether a command works in a folder for temporary files.
        only_prints: Whether a command only prints text that existed before.
    """

    index: int
    tool: str
    kind: CallKind
    path: str = ""
    command: str = ""
    subject: str = ""
    text: str = ""
    is_scratch: bool = False
    only_prints: bool = False

    @property
    def file_name(self) -> str:
        """The file's name without its folders; '' for a folder."""
        name = self.path.replace("\\", "/").rsplit("/", 1)[-1]
        return one_line(name) if "." in name or name in _BARE_FILES else ""

    @property
    def defined_names(self) -> list[str]:
        """Functions and classes defined in its text, in order, each once."""
        return list(dict.fromkeys(one or two or three for one, two, three in _DEFINITION.findall(self.text)))


def read_call(turn: Turn) -> ToolCall | None:
    """Returns the tool call of a turn, or None if the turn is a message."""
    content = turn.content
    if turn.role != "assistant":
        return None
    if turn.call_id is not None or (turn.name and content.lstrip()[:1] == "{"):
        return _from_arguments(turn.index, turn.name or "", content)
    if content.startswith("$ "):
        return _run_call(turn.index, "Bash", content[2:4_000], "")
    if found := _BARE_PATH.match(content):
        kind: CallKind = "read" if found[1] == "Read" else "edit"
        return ToolCall(turn.index, found[1], kind, found[2].strip(), text=content[found.end() : PARSE_CHARS])
    if found := _BARE_JSON.match(content):
        return _from_arguments(turn.index, found[1], content[found.end() :])
    return None


def _kind_of(tool: str) -> CallKind:
    name = tool.rsplit("__", 1)[-1]
    for kind, pattern in _KINDS:
        if pattern.search(name):
            return kind
    return "other"


def _from_arguments(index: int, tool: str, arguments: str) -> ToolCall:
    kind = _kind_of(tool)
    fields = (
        _fields_from_json(arguments)
        if arguments.lstrip()[:1] == "{"
        else _fields_from_markdown(arguments[:PARSE_CHARS], kind)
    )
    path = _first_value(fields, _PATH_FIELDS)
    command = _first_value(fields, _COMMAND_FIELDS)
    subject = _first_value(fields, ("description", "subject", "pattern", "query", "url", "prompt", "skill"))
    if patched := _PATCHED_FILE.search(arguments[:PARSE_CHARS].replace("\\n", "\n")):
        return ToolCall(index, tool, "edit", patched[1].strip(), text=arguments[:PARSE_CHARS])
    if kind == "other":
        kind = "run" if command else kind
    if kind == "run":
        return _run_call(index, tool, command, subject)
    written = " ".join(
        str(fields.get(key, "")) for key in ("old_string", "new_string", "content", "old_str", "new_str")
    )
    return ToolCall(index, tool, kind, path, subject=subject, text=written[:PARSE_CHARS])


def _run_call(index: int, tool: str, command: str, subject: str) -> ToolCall:
    command = command[:PARSE_CHARS].strip()
    return ToolCall(
        index,
        tool,
        "run",
        command=_COMMAND_PREFIXES.sub("", main_line(_COMMAND_PREFIXES.sub("", command))),
        subject=subject,
        is_scratch=_SCRATCH.search(command) is not None,
        only_prints=only_prints(_COMMAND_PREFIXES.sub("", command)),
    )


def _fields_from_json(arguments: str) -> dict[str, Any]:
    if len(arguments) <= PARSE_CHARS:
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            return parsed
    return {key: value.replace("\\n", "\n") for key, value in _FIELD.findall(arguments[:PARSE_CHARS])}


def _fields_from_markdown(markdown: str, kind: CallKind) -> dict[str, Any]:
    """The same fields as `_fields_from_json`, from a log that writes calls for readers."""
    if kind == "run":
        command = _FENCED.search(markdown) or _COMMAND_LINE.search(markdown)
        return {"command": command[1], "description": markdown[: command.start()].strip()} if command else {}
    if kind not in ("read", "edit", "find"):
        return {}
    return {name or "path": value for name, value in reversed(_BACKTICKS.findall(markdown.split("```", 1)[0]))}


def _first_value(fields: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, list):
            value = value[-1] if value else ""
        if isinstance(value, str) and value:
            return value
    return ""
