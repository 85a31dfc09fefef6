"""Branches without copies: the chain of turns that leads to a turn, read off a store's runs.

run 1   1 2 3 4 5 6        seqs; run 2 follows turn 3, run 3 turn 8
run 2         └ 7 8 9      lineage of 10 = (1..3) (7..8) (10..10), indexes 0..5
run 3             └ 10
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ctxmem_mcp.stores.records import Run, State


@dataclass(frozen=True, slots=True)
class Segment:
    """Turns first_seq..last_seq of one run, of which the first is at index first_index of the branch."""

    first_seq: int
    last_seq: int
    first_index: int
    first_piece: int

    @property
    def last_index(self) -> int:
        return self.first_index + self.last_seq - self.first_seq


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chain of turns up to and including one; empty before the first turn of the conversation."""

    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, runs: Sequence[Run], seq: int) -> Lineage:
        """Returns the lineage of turn `seq` (0: the empty one)."""
        starts = [run.first_seq for run in runs]
        segments: list[Segment] = []
        while seq:
            run = runs[bisect_right(starts, seq) - 1]
            segments.append(Segment(run.first_seq, seq, run.first_index, run.first_piece))
            seq = run.parent_seq
        return cls(tuple(reversed(segments)))

    @property
    def length(self) -> int:
        """The number of turns."""
        return self.segments[-1].last_index + 1 if self.segments else 0

    @property
    def last_seq(self) -> int:
        return self.segments[-1].last_seq if self.segments else 0

    def seq_at(self, index: int) -> int | None:
        """Returns the seq of the turn at an index; None outside the branch."""
        for segment in reversed(self.segments):
            if segment.first_index <= index <= segment.last_index:
                return segment.first_seq + index - segment.first_index
        return None

    def seqs(self, first: int, last: int) -> list[int]:
        """Returns the seqs of the turns at indexes first..last (inclusive), without those outside the branch."""
        return [seq for a, b in self.ranges(first, last) for seq in range(a, b + 1)]

    def ranges(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yields the same turns as ranges (first_seq, last_seq), both inclusive."""
        for segment in self.segments:
            a, b = max(first, segment.first_index), min(last, segment.last_index)
            if a <= b:
                shift = segment.first_seq - segment.first_index
                yield a + shift, b + shift

    def shared_length(self, other: Lineage) -> int:
        """Returns how many turns both have from the beginning on."""
        common = 0
        for segment in self.segments:
            if segment.first_seq not in other:
                break
            last = next(o.last_seq for o in other.segments if o.first_seq <= segment.first_seq <= o.last_seq)
            common = segment.first_index + min(segment.last_seq, last) - segment.first_seq + 1
            if last < segment.last_seq:
                break
        return common

    def __contains__(self, seq: int) -> bool:
        return any(s.first_seq <= seq <= s.last_seq for s in self.segments)


def run_end(runs: Sequence[Run], next_seq: int, seq: int) -> int:
    """Returns the seq of the last turn of the run that contains `seq`."""
    starts = [run.first_seq for run in runs]
    at = bisect_right(starts, seq)
    return (starts[at] if at < len(starts) else next_seq) - 1


def branch_tips(state: State) -> list[int]:
    """Returns the seqs of the turns without a child: one per branch."""
    parents = {run.parent_seq for run in state.runs}
    ends = [run_end(state.runs, state.next_seq, run.first_seq) for run in state.runs]
    return [end for end in ends if end not in parents]
