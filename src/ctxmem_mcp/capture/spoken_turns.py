"""The record of the turns of users and agents: a file for each project, which a hook searches for a prompt's words.

A line is a turn: where it is, keyed hashes of its telling words in their order, and an excerpt. Imports little: a hook
has milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os

from ctxmem_mcp.capture import project_files
from ctxmem_mcp.private_files import create_folder
from ctxmem_mcp.text.keywords import names_of, terms_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

FOLDER = "spoken_turns"
# A project's newest turns. A file is cut to them when it has a quarter more.
RECORDS_MAX = 2_500
# The role of a recap: an agent's context has no turn before it.
RECAP = "recap"
# Only this many characters of a turn are read, and of those only this many words and names count.
CHARS_MAX, TERMS_MAX, NAMES_MAX = 6_000, 250, 40
EXCERPT_CHARS = 500
_HASH_DIGITS = 6
_NAMES_AT = "|"


class SpokenTurn:
    """A turn of a user or an agent.

    Attributes:
        conversation, turn: where it is.
        index: its place in its conversation.
        day: its day (ISO 8601); may be empty.
        role: the role, or RECAP.
        terms: hashes of its words in order, then a mark, then those of its names.
        json_excerpt: its beginning, as JSON.
    """

    __slots__ = ("conversation", "day", "index", "json_excerpt", "role", "terms", "turn")

    def __init__(
        self, conversation: str, turn: str, index: int, day: str, role: str, terms: Sequence[str], json_excerpt: str
    ) -> None:
        self.conversation, self.turn, self.index, self.day, self.role = conversation, turn, index, day, role
        self.terms, self.json_excerpt = terms, json_excerpt

    @property
    def excerpt(self) -> str:
        """Its beginning."""
        return str(json.loads(self.json_excerpt))

    @property
    def line(self) -> str:
        """The turn's line in its file."""
        place = (self.conversation, self.turn, str(self.index), self.day, self.role)
        return "\t".join((*place, " ".join(self.terms), self.json_excerpt)) + "\n"

    def words_and_names(self) -> tuple[Sequence[str], Sequence[str]]:
        """Returns the hashes of its words, in order, and those of its names."""
        at = self.terms.index(_NAMES_AT) if _NAMES_AT in self.terms else len(self.terms)
        return self.terms[:at], self.terms[at + 1 :]


class Hasher:
    """Hashes words with a folder's secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._known: dict[str, str] = {}

    def __call__(self, word: str) -> str:
        found = self._known.get(word)
        if found is None:
            raw = word.encode("utf-8", "replace")
            digest = hashlib.blake2b(raw, key=self._secret, digest_size=_HASH_DIGITS // 2).hexdigest()
            found = self._known[word] = digest
        return found

    def terms(self, text: str) -> list[str]:
        """Returns the hashes of a text's words and names, as a record has them."""
        text = text[:CHARS_MAX]
        words = [self(word) for word in terms_of(text)[:TERMS_MAX]]
        return [*words, _NAMES_AT, *sorted(map(self, names_of(text)))[:NAMES_MAX]]


def folder_in(data_dir: str) -> str:
    """Returns the folder of the records."""
    return os.path.join(data_dir, FOLDER)


def load_hasher(data_dir: str, *, create: bool = False) -> Hasher | None:
    """Returns the hasher of the records' words; None if there are no records yet."""
    secret = project_files.load_secret(folder_in(data_dir), create=create)
    return Hasher(secret) if secret else None


def read(data_dir: str, cwd: str) -> Iterator[SpokenTurn]:
    """Yields the turns of the project that a folder belongs to, the oldest first."""
    return _parse(project_files.read_lines(project_files.path_of(folder_in(data_dir), cwd)))


def add(data_dir: str, cwd: str, turns: Iterable[SpokenTurn]) -> None:
    """Adds turns to a project's record, except those that it has.

    The caller holds the spool's lock: two writers at once would lose lines.
    """
    path = project_files.path_of(folder_in(data_dir), cwd)
    lines = [line for line in project_files.read_lines(path) if line]
    known = {tuple(line.split("\t", 2)[:2]) for line in lines}
    new = [turn.line for turn in turns if (turn.conversation, turn.turn) not in known]
    if not new:
        return
    if len(lines) + len(new) > RECORDS_MAX + RECORDS_MAX // 4:
        kept = [*(f"{line}\n" for line in lines), *new][-RECORDS_MAX:]
        project_files.write_lines(path, kept)
        return
    create_folder(os.path.dirname(path))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, "".join(new).encode("utf-8", "replace"))
    finally:
        os.close(file)


def purge(data_dir: str, is_gone: Callable[[SpokenTurn], bool]) -> None:
    """Removes turns from all projects' records."""
    for path in project_files.paths_in(folder_in(data_dir)):
        turns = list(_parse(project_files.read_lines(path)))
        kept = [turn for turn in turns if not is_gone(turn)]
        if len(kept) < len(turns):
            project_files.write_lines(path, (turn.line for turn in kept))


def _parse(lines: Iterable[str]) -> Iterator[SpokenTurn]:
    for line in lines:
        fields = line.split("\t", 6)
        try:
            conversation, turn, index, day, role, terms, excerpt = fields
            yield SpokenTurn(conversation, turn, int(index), day, role, terms.split(" "), excerpt)
        except ValueError:  # another version's, or cut off by a kill
            continue
