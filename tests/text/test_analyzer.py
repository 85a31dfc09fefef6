"""Index terms and flags of texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.text.analyzer import EXACT, STOP_WORDS, TERM_CHARS_MAX, analyze
from ctxmem_mcp.text.chunk_flags import SAID_BY_USER, Flag, flags, is_prose, speaker_terms


@pytest.mark.parametrize(
    ("written", "query"),
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
def test_other_forms_of_a_word_match_the_text(written: str, query: str) -> None:
    assert set(analyze(query)) <= set(analyze(written))


def test_an_identifier_gives_its_words_and_itself() -> None:
    assert analyze("parseConfig") == ["pars", "configur", "=parseconfig"]
    assert analyze("see setup.go:42") == ["see", "setup", "=setup.go", "42"]
    assert EXACT + "hook_registry.go" in analyze("a/b/hook_registry.go")
    assert EXACT + "parseconfig" not in analyze("parse config")


def test_stop_words_are_dropped_and_numbers_kept() -> None:
    assert analyze(" ".join(STOP_WORDS)) == []
    assert analyze("it costs 1500 and 3.14") == ["cost", "1500", "3", "14", "=3.14"]


def test_a_hash_is_one_term() -> None:
    assert analyze("commit 4e0f5ce0bbac") == ["commit", "4e0f5ce0bbac"]


def test_binary_data_written_as_text_gives_no_terms() -> None:
    bytes_written = "iVBORw0KGgoAAAANSUhEUgAA/x+Q2" * 40
    assert analyze(f'{{"type":"image","data":"{bytes_written}=="}}') == analyze('{"type":"image","data":" "}')
    assert analyze("x" * 200) == ["x" * TERM_CHARS_MAX]


def test_scripts_without_spaces_give_characters_and_pairs_and_others_words() -> None:
    assert analyze("東京都") == ["東", "東京", "京", "京都"]  # 都 alone: a stop word in Chinese
    assert analyze("hello世界") == ["hello", "世", "世界", "界"]
    assert analyze("привет мир") == ["привет", "мир"]
    assert len(analyze("हिन्दी भाषा")) == 2


@given(st.text(max_size=400))
def test_any_text_always_gives_the_same_bounded_terms(text: str) -> None:
    found = analyze(text)
    assert found == analyze(text)
    assert all(0 < len(term) <= TERM_CHARS_MAX for term in found)
    flags(text, "user")


@given(st.lists(st.text(alphabet="abcXYZ_.1é世", min_size=1, max_size=12), max_size=30))
def test_separated_words_give_the_terms_of_each(words: list[str]) -> None:
    assert analyze(" ".join(words)) == [term for word in words for term in analyze(word)]


def test_an_overflow_of_the_term_cache_changes_nothing() -> None:
    before = analyze("parseConfig went missing")
    for n in range(30_000):
        analyze(f"word{n}")
    assert analyze("parseConfig went missing") == before


@pytest.mark.parametrize(
    ("text", "role", "expected"),
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
def test_flags_describe_a_piece(text: str, role: str, expected: Flag) -> None:
    assert flags(text, role) & expected == expected


def test_tool_output_is_not_prose() -> None:
    assert not is_prose("All is well with the world.", "tool")
    assert not is_prose('{"command": "echo all is well"}', "assistant")
    assert is_prose("All is well with the world.", "assistant")
    assert speaker_terms(flags("All is well.", "tool"), "tool") == ()
    assert speaker_terms(flags("All is well.", "user"), "user") == (SAID_BY_USER,)


def test_no_text_can_forge_a_speaker_term() -> None:
    assert not {"@user", "@agent"} & set(analyze("@user said @agent =user @user"))
