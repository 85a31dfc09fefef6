"""Our server in Goose's YAML (`ConfigEdit`), as a block of lines under one key; every other line stays as it was.

Only the block style is edited, which Goose itself writes. There is no YAML library among the dependencies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ctxmem_mcp.install.config_edits import Servers, our_name, our_names
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.server_entry import NAME, ServerCommand
from ctxmem_mcp.patterns import lazy_regex

_BOM = "\ufeff"
_KEY = lazy_regex(r"""( *)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s#'"\[\]{}&*!|>%@-][^#:]*?)[ \t]*:(?:[ \t]+(.*))?""")
_ITEM = lazy_regex(r" *- +(.*)")
_COMMENT = lazy_regex(r"(?:^|\s)#.*")
_INDENT = 2


@dataclass(frozen=True, slots=True)
class _Block:
    """A key with what is indented below it: the lines `start` to `stop`."""

    name: str
    indent: int
    start: int
    stop: int


@dataclass(frozen=True)
class YamlServers(Servers):
    """Servers in YAML, under one key of the file. A new one has the members of `trailing` after the command."""

    path: Path
    key: str
    trailing: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "a mapping in block style, one member a line"

    def put(self, text: str | None, server: ServerCommand) -> str:
        servers = self._servers(text)
        known = our_name(servers)
        command = {"cmd": server.command, "args": server.arguments}
        if known is None:
            members = {"enabled": True, "type": "stdio", "name": NAME, **command, **self.trailing}
            return self._verified(self._add(text or "", members), servers | {NAME: members})
        for name, value in command.items():
            if self._servers(text)[known].get(name) != value:
                text = self._set(text or "", known, name, value)
        return self._verified(text or "", servers | {known: servers[known] | command})

    def _add(self, text: str, members: Mapping[str, Any]) -> str:
        lines = [f"{NAME}:", *(f"{' ' * _INDENT}{name}: {_literal(value)}" for name, value in members.items())]
        return self._insert(text, lines)

    def _verified(self, text: str, expected: Mapping[str, Any]) -> str:
        """Returns the text. Raises CannotEdit if its servers are not those expected."""
        if self._servers(text) != expected:
            raise CannotEdit(f"has {self.key!r} in a form that can't be edited safely; make the change by hand")
        return text

    def copy(self, text: str | None, source: str) -> str:
        lines, text = _lines(source), text or ""
        servers, present = self._servers(source), self._servers(text)
        ours = {name: servers[name] for name in our_names(servers)}
        for block in self._blocks(lines):
            if block.name in ours:
                text = self._insert(text, [_unindented(line, block.indent) for line in _within(lines, block)])
        return self._verified(text, present | ours)

    def remove(self, text: str, *, prune: bool) -> str | None:
        servers = self._servers(text)
        ours = our_names(servers)
        lines = _lines(text)
        for block in reversed(self._blocks(lines)):
            if block.name in ours:
                del lines[block.start : block.stop]
        holder = self._holder(lines)
        if prune and holder and not self._blocks(lines):
            del lines[holder.start]
        return self._verified(_joined(text, lines), {name: servers[name] for name in servers if name not in ours})

    def _read(self, text: str | None) -> dict[str, Any]:
        lines = _lines(text or "")
        if self._holder(lines) is None:
            return {}
        return {self.key: {block.name: _members(lines, block) for block in self._blocks(lines)}}

    def _holder(self, lines: Sequence[str]) -> _Block | None:
        """The file's key for servers. Raises CannotEdit."""
        for line in lines:
            if re.match(r" *\t", line) or not (_is_blank(line) or line[0] in " -#%" or _KEY.match(line)):
                raise CannotEdit(f"is not YAML in block style: {line.strip()[:60]!r}")
        holder = next((block for block in _blocks(lines, 0, len(lines)) if block.name == self.key), None)
        if holder is not None and _value_of(lines[holder.start]) not in ("", "{}", "null", "~"):
            raise CannotEdit(f"has {self.key!r}, which is not {self.kind}")
        return holder

    def _blocks(self, lines: Sequence[str]) -> list[_Block]:
        holder = self._holder(lines)
        if holder is None:
            return []
        _refuse_others(lines, holder)
        return list(_blocks(lines, holder.start + 1, holder.stop))

    def _insert(self, text: str, block: Sequence[str]) -> str:
        """Adds a block after the last server."""
        eol, lines = _line_end(text), _lines(text)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += eol
        holder = self._holder(lines)
        present = self._blocks(lines)
        indent = " " * (present[0].indent if present else _INDENT)
        if holder is None:
            lines.append(f"{self.key}:{eol}")
        elif not present:
            lines[holder.start] = f"{self.key}:{eol}"
        at = present[-1].stop if present else holder.start + 1 if holder else len(lines)
        lines[at:at] = [f"{indent}{line}{eol}" for line in block]
        return _joined(text, lines)

    def _set(self, text: str, server: str, name: str, value: Any) -> str:
        """Sets a member of a server."""
        lines = _lines(text)
        block = next(block for block in self._blocks(lines) if block.name == server)
        _refuse_others(lines, block, items=True)
        members = list(_blocks(lines, block.start + 1, block.stop))
        indent = members[0].indent if members else block.indent + _INDENT
        found = next((member for member in members if member.name == name), None)
        start, stop = (found.start, found.stop) if found else (block.stop, block.stop)
        lines[start:stop] = [f"{' ' * indent}{name}: {_literal(value)}{_line_end(text)}"]
        return _joined(text, lines)


def _blocks(lines: Sequence[str], start: int, stop: int) -> Iterator[_Block]:
    """Yields the keys of the mapping in these lines. Comments and blank lines after a block are not part of it."""
    heads: list[tuple[int, str]] = []
    indent = None
    for at in range(start, stop):
        found = _KEY.match(lines[at])
        if found and not _is_blank(lines[at]) and len(found[1]) == (len(found[1]) if indent is None else indent):
            indent = len(found[1])
            heads.append((at, found[2].strip("\"'")))
    for number, (at, name) in enumerate(heads):
        end = heads[number + 1][0] if number + 1 < len(heads) else stop
        while end > at + 1 and _is_blank(lines[end - 1]):
            end -= 1
        yield _Block(name, indent or 0, at, end)


def _refuse_others(lines: Sequence[str], block: _Block, *, items: bool = False) -> None:
    """Raises CannotEdit if a line in a block, no deeper than the first one, is no key: it would count as part of the
    key before it. items: a list's items may be as deep as its key, as Goose writes them."""
    indent = None
    for line in _within(lines, block)[1:]:
        depth = len(line) - len(line.lstrip(" "))
        if _is_blank(line) or (indent is not None and depth > indent):
            continue
        if items and depth == indent and _ITEM.match(line):
            continue
        if not _KEY.match(line) or depth <= block.indent or depth < (indent or 0):
            raise CannotEdit(f"has a line under {block.name!r} that is not understood: {line.strip()[:60]!r}")
        indent = depth


def _unindented(line: str, indent: int) -> str:
    """The line without that much indentation, or all of it if it has less, as a comment may."""
    return line[min(indent, len(line) - len(line.lstrip(" "))) :].rstrip("\r\n")


def _within(lines: Sequence[str], block: _Block) -> Sequence[str]:
    return lines[block.start : block.stop]


def _members(lines: Sequence[str], block: _Block) -> dict[str, Any]:
    """The members of a server: texts, and lists and mappings of texts."""
    members: dict[str, Any] = {}
    for member in _blocks(lines, block.start + 1, block.stop):
        value = _value_of(lines[member.start])
        inner = lines[member.start + 1 : member.stop]
        items = [found[1] for line in inner if (found := _ITEM.match(line))]
        if not value and items:
            members[member.name] = [_scalar(_COMMENT.sub("", item).strip()) for item in items]
        elif not value and inner:
            within = _blocks(lines, member.start + 1, member.stop)
            members[member.name] = {one.name: _scalar(_value_of(lines[one.start])) for one in within}
        else:
            members[member.name] = _scalar(value)
    return members


def _value_of(line: str) -> str:
    found = _KEY.match(line.rstrip())
    value = (found[3] or "").strip() if found else ""
    is_whole = value[:1] in ("'", '"', "[", "{") and value[-1:] in ("'", '"', "]", "}")  # '#' may be part of it
    return value if is_whole else _COMMENT.sub("", value).strip()


def _scalar(value: str) -> Any:
    if value.startswith("'"):
        return value.strip("'").replace("''", "'")
    try:
        return json.loads(value)
    except ValueError:
        return value


def _literal(value: Any) -> str:
    """JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _is_blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text.removeprefix(_BOM))


def _joined(text: str, lines: Sequence[str]) -> str:
    return (_BOM if text.startswith(_BOM) else "") + "".join(lines)
