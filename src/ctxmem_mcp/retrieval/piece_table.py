"""What the ranker knows about a branch's chunks without reading their text, as one array per property. Pure.

Scoring 3,000 chunks over arrays takes a few milliseconds, over objects ten times as long. What does not depend on the
query is computed once per table, and the table of a branch is kept between its views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from ctxmem_mcp.models import THINKING
from ctxmem_mcp.text.chunk_flags import Flag

# As plain ints: a Flag's own operators are many times slower.
_PROSE, _QUESTION, _CALL = int(Flag.PROSE), int(Flag.QUESTION), int(Flag.CALL)
_ASKS_QUESTION = _PROSE | _QUESTION
_ROLES = {"user": 0, "assistant": 1, "tool": 2}
# Names of agent turns that are not tool calls.
_SPEECH_NAMES = (None, THINKING)
# Where there is no such chunk.
NOWHERE = -1


class PieceFacts(NamedTuple):
    """What the ranker knows about a chunk without reading its text.

    A tuple, because thousands are created per conversation and a frozen dataclass takes ten times as long to create.

    Attributes:
        ordinal: Position of the chunk on the branch (0, 1, ...).
        turn: Index of the chunk's turn.
        start: Offset of the chunk in its turn, in characters.
        tokens: Length in LLM tokens.
        words: Number of index terms.
        flags: Properties of the text (`chunk_flags.Flag`), as an int.
        leaf: Index of the first turn of the chunk's section.
        sitting: Index of the first turn of the chunk's sitting (the turns between two long pauses).
        role: Role of the turn.
        name: Name of the speaker as stored with the turn.
        said_at: Seconds since 1970; None if unknown.
    """

    ordinal: int
    turn: int
    start: int
    tokens: int
    words: int
    flags: int
    leaf: int
    sitting: int
    role: str
    name: str | None = None
    said_at: float | None = None


def is_user_speech(role: str, flags: int) -> bool:
    """Returns whether the user wrote a chunk, in sentences."""
    return role == "user" and bool(flags & _PROSE)


def is_agent_speech(role: str, name: str | None, flags: int) -> bool:
    """Returns whether the agent said or thought a chunk. Names in backticks do not make an explanation code."""
    return role == "assistant" and name in _SPEECH_NAMES and not flags & _CALL


_ARRAYS = ("ordinal", "turn", "start", "tokens", "words", "flags", "leaf", "sitting", "role", "name")


class PieceTable:
    """The chunks of a branch, or some of them, by ascending ordinal: an array per property, a row per chunk."""

    def __init__(self, facts: Iterable[PieceFacts], times: Callable[[], Sequence[float | None]] | None = None) -> None:
        """Creates a table.

        Args:
            facts: The chunks.
            times: Returns when each of them was said, if that takes time to read; else the facts' own times count.
        """
        self._fill(list(zip(*facts, strict=True)) or [()] * len(PieceFacts._fields), times)

    @classmethod
    def of_columns(
        cls, columns: Sequence[Sequence[Any]], times: Callable[[], Sequence[float | None]] | None = None
    ) -> PieceTable:
        """Creates a table of the values of each attribute, in the order of `PieceFacts`; times: see `__init__`."""
        table = cls.__new__(cls)
        table._fill(columns, times)
        return table

    def _fill(self, columns: Sequence[Sequence[Any]], times: Callable[[], Sequence[float | None]] | None) -> None:
        import numpy as np

        numbers = [np.array(column, dtype=np.int64) for column in columns[:8]]
        self.ordinal, self.turn, self.start, self.tokens, self.words, self.flags, self.leaf, self.sitting = numbers
        self.role = np.array([_ROLES.get(role, 3) for role in columns[8]], dtype=np.int64)
        self.distinct_names: Sequence[str | None] = list(dict.fromkeys(columns[9]))
        number = {name: i for i, name in enumerate(self.distinct_names)}
        self.name = np.array([number[name] for name in columns[9]], dtype=np.int64)
        self._times = times or (lambda: columns[10])
        self._runs: dict[str, tuple[Any, Any]] = {}

    def take(self, rows: Any) -> PieceTable:
        """Returns a table of some rows, given by ascending number."""
        taken = PieceTable.__new__(PieceTable)
        for name in _ARRAYS:
            setattr(taken, name, getattr(self, name)[rows])
        taken.distinct_names = self.distinct_names
        taken._times, taken._runs = lambda: [self.said_at[row] for row in rows.tolist()], {}
        return taken

    def extended(self, more: PieceTable, times: Callable[[], Sequence[float | None]]) -> PieceTable:
        """Returns a table of these chunks and those of another table, whose ordinals follow.

        Args:
            more: The other table.
            times: Returns when each chunk of both was said.
        """
        import numpy as np

        joined = PieceTable.__new__(PieceTable)
        for name in _ARRAYS[:-1]:
            setattr(joined, name, np.concatenate((getattr(self, name), getattr(more, name))))
        joined.distinct_names = list(dict.fromkeys([*self.distinct_names, *more.distinct_names]))
        numbers = np.array([joined.distinct_names.index(name) for name in more.distinct_names], dtype=np.int64)
        joined.name = np.concatenate((self.name, numbers[more.name]))
        joined._times, joined._runs = times, {}
        return joined

    def __len__(self) -> int:
        return len(self.ordinal)

    @cached_property
    def said_at(self) -> Sequence[float | None]:
        """Seconds since 1970 at which each chunk was said; None if unknown."""
        return self._times()

    def has_flag(self, flag: int) -> Any:
        """Returns which chunks have any of these flags."""
        return (self.flags & flag) != 0

    def has_role(self, role: str) -> Any:
        """Returns which chunks are of turns of this role."""
        return self.role == _ROLES[role]

    def of_names(self, accepts: Callable[[str | None], bool]) -> Any:
        """Returns which chunks have a speaker's name that the function accepts, which is called once per name."""
        import numpy as np

        accepted = np.array([accepts(name) for name in self.distinct_names], dtype=bool)
        return accepted[self.name] if len(self) else np.zeros(0, dtype=bool)

    @cached_property
    def prose(self) -> Any:
        return self.has_flag(_PROSE)

    @cached_property
    def thinking(self) -> Any:
        return self.of_names(lambda name: name == THINKING)

    @cached_property
    def agent_speech(self) -> Any:
        """Which chunks the agent said or thought; see `is_agent_speech`."""
        unnamed = self.of_names(lambda name: name in _SPEECH_NAMES)
        return self.has_role("assistant") & unnamed & ~self.has_flag(_CALL)

    @cached_property
    def user_speech(self) -> Any:
        """Which chunks the user wrote, in sentences."""
        return self.has_role("user") & self.prose

    @cached_property
    def speech(self) -> Any:
        """Which chunks were said by the user or the agent: neither call nor output."""
        return self.agent_speech | self.user_speech

    @cached_property
    def size(self) -> Any:
        """The logarithm of each chunk's tokens with its header."""
        import numpy as np

        return np.log(self.tokens + 12)

    @cached_property
    def asks(self) -> Any:
        """Which chunks are prose with a question."""
        return (self.flags & _ASKS_QUESTION) == _ASKS_QUESTION

    @cached_property
    def after_question(self) -> Any:
        """Which chunks follow a question in the same sitting."""
        at = self.row_of(-1)
        return self.asks[at] & (at != NOWHERE) & (self.turn > self.sitting)

    def row_of(self, offset: int) -> Any:
        """Returns, for each chunk, the row of the one at this offset from its ordinal; NOWHERE if there is none."""
        import numpy as np

        if not len(self):
            return np.zeros(0, dtype=np.int64)
        at = np.searchsorted(self.ordinal, self.ordinal + offset)
        clipped = np.minimum(at, len(self) - 1)
        return np.where(self.ordinal[clipped] == self.ordinal + offset, clipped, NOWHERE)

    @cached_property
    def reachable(self) -> Mapping[int, Any]:
        """By offset (-2, -1, 1, 2): which chunks have no other sitting there. One not in the table is in the same."""
        rows = {d: self.row_of(d) for d in (-2, -1, 1, 2)}
        return {d: (at == NOWHERE) | (self.sitting[at] == self.sitting) for d, at in rows.items()}

    @cached_property
    def speech_beside(self) -> tuple[Any, Any]:
        """The rows of the last speech of an earlier turn and of the next speech, in the same sitting; or NOWHERE."""
        import numpy as np

        rows, none = np.arange(len(self)), [NOWHERE]
        last = np.maximum.accumulate(np.where(self.speech, rows, NOWHERE))
        following = np.minimum.accumulate(np.where(self.speech, rows, len(self))[::-1])[::-1]
        first, group = self.runs("turn")
        before = np.concatenate((none, last))[:-1][first][group]
        after = np.concatenate((following, [len(self)]))[1:]
        after = np.where(after < len(self), after, NOWHERE)
        before, after = (np.where(self.sitting[at] == self.sitting, at, NOWHERE) for at in (before, after))
        return before, after

    @cached_property
    def closing(self) -> Any:
        """Which chunks are the agent's last words before the user speaks again, or at the end."""
        import numpy as np

        found, said = np.zeros(len(self), dtype=bool), np.flatnonzero(self.speech & ~self.thinking)
        turn, users, count = self.turn[said], self.role[said] == _ROLES["user"], len(said)
        places = np.arange(count)
        ends = np.flatnonzero(np.concatenate((turn[1:] != turn[:-1], [True]))[:count])
        next_turn = ends[np.searchsorted(ends, places)] + 1
        next_user = np.minimum.accumulate(np.append(np.where(users, places, count), count)[::-1])[::-1][1:]
        following = np.minimum(next_turn, next_user)
        by_user = np.append(users, True)[following]
        found[said] = (self.role[said] == _ROLES["assistant"]) & by_user
        return found

    def runs(self, name: str) -> tuple[Any, Any]:
        """Groups the rows by an attribute whose equal values are adjacent, as "turn", "leaf" and "sitting" are.

        Returns:
            The first row of each group, and the number of each row's group.
        """
        import numpy as np

        if name not in self._runs:
            values = getattr(self, name)
            begins = np.ones(len(self), dtype=bool)
            begins[1:] = values[1:] != values[:-1]
            self._runs[name] = np.flatnonzero(begins), np.cumsum(begins) - 1
        return self._runs[name]
