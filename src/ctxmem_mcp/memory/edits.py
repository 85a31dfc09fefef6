"""Finds the edits of a file that agents made, and the talk that decided each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.memory.branch_reader import BranchReader, spoken_turns
from ctxmem_mcp.memory.search import SNIPPET_CHARS
from ctxmem_mcp.models import INJECTED, RECAP, Turn, parse_iso
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.results import Hit
from ctxmem_mcp.summarizers.tool_calls import read_call
from ctxmem_mcp.text import analyzer
from ctxmem_mcp.text.analyzer import EXACT
from ctxmem_mcp.text.host_text import is_host_text
from ctxmem_mcp.text.media import shown_text
from ctxmem_mcp.views.render import shorten_name

# A request of fewer words ("yes", "go on") means what the agent proposed before it.
WORDS_ALONE_MIN = 5
# So does a reply of up to so many words: "yeah, let's give it a try". Of ten files of a real session, the talk says for
# nine what was decided; without this rule for five.
REPLY_WORDS_MAX = 20
_REPLY = lazy_regex(
    r"\W*(?:yes|yeah|yep|yup|ok|okay|sure|no|nope|right|exactly|agreed|correct|go ahead|let'?s|sounds|looks|perfect|"
    r"great|good|fine|both|ja|nein|genau|oui|d'accord|s[ií]|vale|sim|да|нет|хорошо)\b",
    re.IGNORECASE,
)
# A shorter line is in too many edits to tell which wrote it.
LINE_CHARS_MIN = 4
_NEW_FIELDS = ("new_string", "new_str", "content", "newText", "file_text", "insert_text", "code_edit", "new_source")
_OLD_FIELDS = ("old_string", "old_str", "oldText")


@dataclass(frozen=True, slots=True)
class FileEdit:
    """An edit of a file.

    Attributes:
        turn: the call that made it.
        at: when, in seconds since 1970.
        path: the file, as the agent named it.
        old, new: the text before and after, as far as the call has them.
        talk: the turns that decided it: the user's request, what the agent had proposed if the request is short, and
            what the agent said last before the edit. In their order.
    """

    conversation_id: str
    turn: Turn
    at: float
    path: str
    old: str
    new: str
    talk: Sequence[Turn]

    def wrote(self, line: str) -> bool:
        """Whether it put this line there."""
        text = line.strip()
        return len(text) >= LINE_CHARS_MIN and text in self.new and text not in self.old


def edit_hits(edit: FileEdit) -> list[Hit]:
    """Returns the turns that decided an edit, and the edit, as a search returns turns."""
    return [_hit(edit, turn, turn.content) for turn in edit.talk] + [_hit(edit, edit.turn, edit.new)]


def _hit(edit: FileEdit, turn: Turn, text: str) -> Hit:
    words = " ".join(shown_text(text).split())
    snippet = words if len(words) <= SNIPPET_CHARS else words[:SNIPPET_CHARS].rstrip() + "…"
    return Hit(
        turn.id, edit.conversation_id, turn.role, shorten_name(turn.name), turn.said_at, snippet, [], turn.tokens
    )


async def find_edits(branch: BranchReader, path: str) -> list[FileEdit]:
    """Returns the edits of a file on a branch, newest first.

    Args:
        branch: The branch.
        path: The file, or the last parts of its path.
    """
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    terms = list(dict.fromkeys(analyzer.analyze(name)))
    terms = [term for term in terms if term.startswith(EXACT)] or terms
    hits = await branch.store.term_hits(branch.id, terms, branch.state.next_piece)
    if not terms or any(term not in hits for term in terms):
        return []
    ids = set.intersection(*(set(hit.chunks) for hit in hits.values()))
    pieces = [piece for piece in await branch.pieces(sorted(ids)) if piece.role == "assistant"]
    turns = await branch.turns(piece.index for piece in pieces if branch.lineage.seq_at(piece.index) == piece.seq)
    found = []
    for turn in sorted(turns.values(), key=lambda one: -one.index):
        call = read_call(turn)
        if call is not None and call.kind == "edit" and (is_same_file(call.path, path) or path in turn.content):
            old, new = _texts(turn.content)
            at = parse_iso(turn.said_at) or turn.stored_at
            found.append(FileEdit(branch.id, turn, at, call.path, old, new or call.text, ()))
    return found


def is_same_file(one: str, other: str) -> bool:
    """Whether two paths name the same file, one of them perhaps from another folder on: a/b/c.py and b/c.py."""
    first, second = (path.replace("\\", "/").removeprefix("./").strip("/").split("/") for path in (one, other))
    shorter = min(len(first), len(second))
    return bool(one and other) and first[-shorter:] == second[-shorter:]


def _texts(arguments: str) -> tuple[str, str]:
    """Returns the old and the new text of a call's arguments."""
    try:
        fields = json.loads(arguments)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict):
        edits = [fields, *(one for one in fields.get("edits") or () if isinstance(one, dict))]
        old, new = (_joined(edits, names) for names in (_OLD_FIELDS, _NEW_FIELDS))
        if old or new:
            return old, new
        arguments = "\n".join(value for value in fields.values() if isinstance(value, str))
    lines = arguments.splitlines()
    return _marked(lines, "-"), _marked(lines, "+")


def _joined(edits: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    return "\n".join(edit[name] for edit in edits for name in names if isinstance(edit.get(name), str))


def _marked(lines: Sequence[str], mark: str) -> str:
    """Returns the lines of a diff that begin with a mark."""
    return "\n".join(line[1:] for line in lines if line.startswith(mark))


async def talk_before(branch: BranchReader, index: int) -> list[Turn]:
    """Returns the turns that decided an edit at this index; see `FileEdit.talk`."""
    bare = [turn for turn in await branch.metadata(0, index - 1) if turn.name not in (INJECTED, RECAP)]
    agents = spoken_turns(bare, "assistant")
    requests = [turn.index for turn in bare if turn.role == "user"]
    chosen: list[Turn] = []
    while requests and not chosen:
        at = requests.pop()
        request = (await branch.turns([at]))[at]
        if is_host_text(request.content):
            continue
        wanted = [turn.index for turn in agents if turn.index > at][-1:]
        if _is_reply(request.content):
            wanted += [turn.index for turn in agents if turn.index < at][-1:]
        chosen = [request, *(await branch.turns(wanted)).values()]
    return sorted(chosen, key=lambda turn: turn.index)


def _is_reply(text: str) -> bool:
    """Returns whether a request means little without what the agent said before it."""
    words = len(text.split())
    return words < WORDS_ALONE_MIN or (words <= REPLY_WORDS_MAX and _REPLY.match(text) is not None)
