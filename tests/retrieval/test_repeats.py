"""Outputs that repeat others are found without reading those that can't, and never by their numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import Piece
from ctxmem_mcp.retrieval.repeats import TOKENS_MIN, covered, repeats, similar_in_size
from ctxmem_mcp.text.chunk_flags import Flag

BUILD = "Compiling 14 files\nerror: undefined name 'x' in app.py:{line}\n1 error in {seconds} s\n"


def piece(tokens: int, *, role: str = "tool", name: str | None = "Bash", flags: int = 0) -> Piece:
    return Piece(1, 1, 0, 0, 10, tokens, 5, flags, 0, 0, role, name, None)  # type: ignore[arg-type]


def test_the_later_of_two_outputs_that_differ_in_numbers_repeats_the_first() -> None:
    texts = {0: BUILD.format(line=3, seconds=12.1), 2: BUILD.format(line=57, seconds=9.8), 3: "all passed\n"}
    assert repeats([[0, 2, 3]], texts) == {2}


def test_an_output_with_another_error_repeats_nothing() -> None:
    other = BUILD.replace("undefined name", "missing import")
    assert repeats([[0, 1]], {0: BUILD.format(line=3, seconds=1), 1: other.format(line=3, seconds=1)}) == set()


def test_a_part_of_an_output_repeats_the_whole_but_not_the_reverse() -> None:
    long = BUILD.format(line=3, seconds=1) + "".join(f"warning {word}\n" for word in ("a", "b", "c"))
    short = BUILD.format(line=4, seconds=2)
    assert repeats([[0, 1]], {0: long, 1: short}) == {1}
    assert repeats([[0, 1]], {0: short, 1: long}) == set()


def test_only_long_outputs_of_one_tool_and_of_one_size_are_compared() -> None:
    pieces = [
        piece(400),
        piece(100),
        piece(410),
        piece(405, name="Read"),
        piece(402, flags=int(Flag.PROSE)),
        piece(TOKENS_MIN - 1),
        piece(TOKENS_MIN - 1),
    ]
    assert similar_in_size(pieces) == [[0, 2]]


@given(st.lists(st.builds(piece, st.integers(1, 500), name=st.sampled_from(["Bash", "Read", None])), max_size=30))
def test_no_chunk_is_in_two_groups(pieces: list[Piece]) -> None:
    groups = similar_in_size(pieces)
    members = [position for group in groups for position in group]
    assert len(members) == len(set(members))
    assert all(len(group) > 1 and group == sorted(group) for group in groups)
    assert all(len({(pieces[at].role, pieces[at].name) for at in group}) == 1 for group in groups)


RULES = "Never amend a commit that was pushed.\nKeep functions short, at most 40 lines.\nRun the linter first.\n"


def test_text_that_others_have_before_is_covered_also_in_parts() -> None:
    build = BUILD.format(line=3, seconds=12)
    output, prose = piece(100), piece(100, role="user", name=None, flags=Flag.PROSE)
    assert covered([(prose, RULES), (output, build), (output, build + "}\n"), (prose, RULES[:38])]) == {2, 3}
    assert covered([(prose, RULES[:38]), (prose, RULES)]) == set()


def test_numbers_distinguish_prose_but_not_output() -> None:
    output, prose = piece(100), piece(100, role="user", name=None, flags=Flag.PROSE)
    texts = ("The logs stay for 30 days.", "The logs stay for 14 days.")
    assert covered((prose, text) for text in texts) == set()
    assert covered((output, text) for text in texts) == {1}
