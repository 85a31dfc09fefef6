"""What text and queries are found by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.text.analyzer import (
    EXACT,
    SAID_BY_USER,
    STOP_WORDS,
    TERM_CHARS_MAX,
    Flag,
    analyze,
    flags,
    is_prose,
    speaker_terms,
)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("parseConfigFile", "parse config file"),
        ("parse_config_file", "parsing the configuration file"),
        ("HTTPServer2", "http server 2"),
        ("cmd/entire/cli/setup.go", "setup"),
        ("We bought two bikes", "how many bikes did we buy: 2"),
        ("Zürich naïve café", "zurich naive cafe"),
        ("The children ran home", "child running home"),
        ("on the 7th of Feb", "7 February"),
        (r'{"content": "first\nfunc parseIt() {"}', "func parse it"),
    ],
)
def test_what_is_asked_in_other_forms_meets_what_was_written(written: str, asked: str) -> None:
    assert set(analyze(asked)) <= set(analyze(written))


def test_an_identifier_stands_as_its_words_and_once_more_as_itself() -> None:
    assert analyze("parseConfig") == ["pars", "configur", "=parseconfig"]
    assert analyze("see setup.go:42") == ["see", "setup", "=setup.go", "42"]
    assert EXACT + "hook_registry.go" in analyze("a/b/hook_registry.go")
    assert EXACT + "parseconfig" not in analyze("parse config")


def test_stop_words_say_nothing_and_numbers_stay() -> None:
    assert analyze(" ".join(STOP_WORDS)) == []
    assert analyze("it costs 1500 and 3.14") == ["cost", "1500", "3", "14", "=3.14"]


def test_a_hash_is_one_term() -> None:
    assert analyze("commit 4e0f5ce0bbac") == ["commit", "4e0f5ce0bbac"]


def test_a_pictures_bytes_are_no_words() -> None:
    bytes_written = "iVBORw0KGgoAAAANSUhEUgAA/x+Q2" * 40
    assert analyze(f'{{"type":"image","data":"{bytes_written}=="}}') == analyze('{"type":"image","data":" "}')
    assert analyze("x" * 200) == ["x" * TERM_CHARS_MAX]


def test_scripts_without_spaces_become_pairs_and_others_stay_words() -> None:
    assert analyze("東京都") == ["東京", "京都"]
    assert analyze("hello世界") == ["hello", "世界"]
    assert analyze("привет мир") == ["привет", "мир"]
    assert len(analyze("हिन्दी में")) == 2


@given(st.text(max_size=400))
def test_any_text_gives_the_same_bounded_terms_twice(text: str) -> None:
    found = analyze(text)
    assert found == analyze(text)
    assert all(0 < len(term) <= TERM_CHARS_MAX for term in found)
    flags(text, "user")


@given(st.lists(st.text(alphabet="abcXYZ_.1é世", min_size=1, max_size=12), max_size=30))
def test_words_apart_give_the_terms_of_each(words: list[str]) -> None:
    assert analyze(" ".join(words)) == [term for word in words for term in analyze(word)]


def test_more_words_than_are_remembered_change_nothing() -> None:
    before = analyze("parseConfig went missing")
    for n in range(30_000):
        analyze(f"word{n}")
    assert analyze("parseConfig went missing") == before


@pytest.mark.parametrize(
    ("text", "role", "held"),
    [
        ("When do we leave?", "user", Flag.PROSE | Flag.QUESTION),
        ("I paid $20 for it on 2024-05-01", "user", Flag.MONEY | Flag.NUMBER | Flag.TIME | Flag.FIRST_PERSON),
        ("We met in Paris because of Ann", "user", Flag.PLACE | Flag.REASON),
        ("$ go test ./...", "assistant", Flag.COMMAND),
        ('Bash {"command": "ls"}', "assistant", Flag.COMMAND | Flag.CALL),
        ('{"file_path": "a.py", "old_string": "x", "new_string": "y"}', "assistant", Flag.EDIT | Flag.CALL),
        ("main.go:3:1: undefined: foo", "tool", Flag.ERROR | Flag.NUMBER),
        ("- one\n- two\n- three", "assistant", Flag.LIST | Flag.PROSE),
    ],
)
def test_flags_tell_what_a_piece_holds(text: str, role: str, held: Flag) -> None:
    assert flags(text, role) & held == held


def test_what_a_tool_returned_was_said_by_nobody() -> None:
    assert not is_prose("All is well with the world.", "tool")
    assert not is_prose('{"command": "echo all is well"}', "assistant")
    assert is_prose("All is well with the world.", "assistant")
    assert speaker_terms(flags("All is well.", "tool"), "tool") == ()
    assert speaker_terms(flags("All is well.", "user"), "user") == (SAID_BY_USER,)


def test_no_text_can_forge_a_mark() -> None:
    assert not {"@user", "@agent"} & set(analyze("@user said @agent =user @user"))
