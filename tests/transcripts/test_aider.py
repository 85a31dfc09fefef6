"""aider's chat history: two spaces distinguish its own lines from headings and quotes in a reply."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.aider import looks_like, parse
from ctxmem_mcp.transcripts.base import HEAD_CHARS
from tests.transcripts.damage import DamagedText, damaged_lines

NAME = ".aider.chat.history.md"
AT, LATER = "2025-06-02 11:47:49", "2025-06-03 09:00:00"
# A "~" stands for the two spaces at the end of a line, which an editor might strip.
SESSION = f"""
# aider chat started at {AT}

> Aider v0.84.0~
> Model: gpt~

#### Fix the *login* test~
####  and the other one~
#### ~
####~
> Add file to the chat? (Y)es/(N)o [Yes]: y~

Sure.

#### A heading of the model's

> a quote
> of two lines

```python
<<<<<<< SEARCH
=======
>>>>>>> REPLACE
```

> Tokens: 1k sent~
>~
> # 1 block failed to match!

## This block
>>>>>>> REPLACE

must match~

Sorry.

#### /undo~
> Removed: 2bae9da~

# aider chat started at {LATER}

#### Thanks~
""".replace("~", "  ")


def test_a_history_is_parsed_turn_by_turn() -> None:
    transcript = parse(SESSION, NAME)
    assert (transcript.agent, transcript.session_id, transcript.warnings) == ("aider", "", ())
    reply = SESSION[SESSION.index("Sure.") : SESSION.index("\n\n> Tokens")]
    assert transcript.turns == (
        NewTurn("tool", "Aider v0.84.0\nModel: gpt", "aider", AT),
        NewTurn("user", "Fix the *login* test\n and the other one\n\n", said_at=AT),
        NewTurn("tool", "Add file to the chat? (Y)es/(N)o [Yes]: y", "aider", AT),
        NewTurn("assistant", reply, None, AT),
        NewTurn(
            "tool",
            "Tokens: 1k sent\n\n# 1 block failed to match!\n\n## This block\n>>>>>>> REPLACE\n\nmust match",
            "aider",
            AT,
        ),
        NewTurn("assistant", "Sorry.", None, AT),
        NewTurn("user", "/undo", said_at=AT),
        NewTurn("tool", "Removed: 2bae9da", "aider", AT),
        NewTurn("user", "Thanks", said_at=LATER),
    )


def test_windows_line_ends_make_no_difference() -> None:
    assert parse(SESSION.replace("\n", "\r\n"), NAME) == parse(SESSION, NAME)


def test_it_recognises_its_own_files_and_no_other_markdown() -> None:
    assert looks_like(NAME, SESSION)
    assert not looks_like("README.md", "# Hello\n\n#### aider  \n\nSee # aider chat started at noon\n")
    found = registry.detect_format(NAME, SESSION)
    assert found is not None
    assert found.parse(SESSION, NAME).agent == "aider"


def test_thoughts_are_turns_named_thinking() -> None:
    tag = "thinking-content-7bbeb8e1441453ad999a0bbba8a46d4b"
    transcript = parse(f"\n#### hi  \n\n<{tag}>\nThey greet.\n</{tag}>\n\nHello!\n\n", NAME)
    assert transcript.turns == (
        NewTurn("user", "hi"),
        NewTurn("assistant", "They greet.", "thinking"),
        NewTurn("assistant", "Hello!"),
    )
    assert parse(f"\n<{tag}>\n\n</{tag}>\n\nHello!\n\n", NAME).turns == (NewTurn("assistant", "Hello!"),)


def test_a_message_without_an_end_is_not_aiders() -> None:
    turns = parse("\n#### hi  \n> quoted\nby the model\n", NAME).turns
    assert [(turn.role, turn.content) for turn in turns] == [("user", "hi"), ("assistant", "> quoted\nby the model")]


def test_an_unpaired_surrogate_is_replaced_with_a_warning() -> None:
    transcript = parse("\n#### \ud800!  \n", NAME)
    assert transcript.turns == (NewTurn("user", "�!"),)
    assert transcript.warnings[0].startswith("line 2:")


@given(damaged_lines(SESSION))
def test_damage_raises_nothing_and_keeps_the_words_before_it(damaged: DamagedText) -> None:
    everything = "\n".join(turn.content for turn in parse(damaged.text, NAME).turns)
    for line in parse(damaged.intact, NAME).turns[:-1]:
        assert line.content in everything


@given(st.text(max_size=40), st.integers(0, len(SESSION)))
def test_inserted_text_raises_nothing(text: str, at: int) -> None:
    parse(SESSION[:at] + text + SESSION[at:], NAME)


def test_all_text_of_a_real_history_is_in_exactly_one_turn(eval_dir: Path) -> None:
    [path] = (eval_dir / "transcripts" / "aider").glob("*.md")
    text = path.read_text(encoding="utf-8")
    assert looks_like(path.name, text[:HEAD_CHARS])
    transcript = parse(text, path.name)
    assert len(transcript.turns) > 130
    assert not transcript.warnings
    requests = re.findall(r"\n\n((?:####.*  \n)+)", text)
    expected = [re.sub(r"^#### ?", "", re.sub("  $", "", lines[:-1], flags=re.M), flags=re.M) for lines in requests]
    assert [turn.content for turn in transcript.turns if turn.role == "user"] == expected
    assert {turn.said_at for turn in transcript.turns} <= set(re.findall(r"^# aider chat started at (.*)$", text, re.M))
    # Only marks, blank lines and session headings are left out.
    parsed = sum(len(re.sub(r"\s", "", turn.content)) for turn in transcript.turns)
    rest = re.sub(r"^# aider chat started at .*$|^#### ?(?=.*  $)|^> ?(?=.*  $)|^> (?=# 1 S)", "", text, flags=re.M)
    assert parsed == len(re.sub(r"\s|</?thinking-content-\w+>", "", rest))
