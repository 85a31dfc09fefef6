"""Lead-ins, narration and objections: what an assistant says to itself is no line; what the user rejects is one."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import Summary
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.summarizers.headlines import as_title, makes_title
from ctxmem_mcp.summarizers.lead_ins import is_narration, strip_lead_in
from ctxmem_mcp.summarizers.sentence_scores import states_correction
from tests.summarizers.sections import turns

NARRATION = [
    "Let me check the tests:",
    "Now I need to look at the session handling.",
    "Now let me run the linter.",
    "Here's what I changed:",
    "Key changes:",
    "I understand the structure now.",
    "I'm using the writing-plans skill to create the plan.",
    "Ich schaue mir zuerst die Tests an und werde sie lesen.",
    "Je vais d'abord vérifier la configuration.",
    "Voy a revisar la configuración primero.",
    "Vou verificar a configuração primeiro.",
    "Сейчас посмотрю на конфигурацию.",
    "让我先检查一下配置。",
    "まず設定ファイルを確認します。",
    "먼저 설정 파일을 확인하겠습니다.",
]
CORRECTIONS = [
    "No, don't touch the parser.",
    "That's wrong, the count includes the first attempt.",
    "I undid your changes.",
    "Why did you delete the test?",
    "It still fails with the same message.",
    "Nein, das ist falsch, der Zähler beginnt bei null.",
    "Non, ce n'est pas ce que je voulais avec le cache.",
    "No, eso no es lo que quería hacer con la caché.",
    "Não, isso não é o que eu queria com o cache.",
    "Нет, это не то, что я просил сделать.",
    "不对，不要修改解析器。",
    "違います。パーサーは変更しないでください。",
    "아니요, 파서는 수정하지 마세요.",
]
NO_CORRECTIONS = [
    "Add a retry to the uploader, please.",
    "No problem, thanks for the quick fix!",
    "Don't worry about it.",
    "I don't know which one is used.",
]
_OPEN_END = re.compile(r"(?:[:;,(\[—–]|\s(?:and|or|the|an?|of|with|because)|\s[\"'`])\Z", re.IGNORECASE)


@pytest.mark.parametrize("sentence", NARRATION)
def test_narration_is_recognised(sentence: str) -> None:
    assert is_narration(strip_lead_in(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        "The loader opens each file twice because `flush` is never called.",
        "Now fix the retry count in uploader.py:",
        "All tests pass.",
        "修复了登录页面的错误。",
        "Der Puffer wird nie geleert.",
    ],
)
def test_a_statement_is_no_narration(sentence: str) -> None:
    assert not is_narration(strip_lead_in(sentence))


@pytest.mark.parametrize("sentence", CORRECTIONS)
def test_a_correction_is_recognised(sentence: str) -> None:
    assert states_correction(sentence)


@pytest.mark.parametrize("sentence", NO_CORRECTIONS)
def test_a_plain_request_is_no_correction(sentence: str) -> None:
    assert not states_correction(sentence)


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("Now let me fix the retry count in uploader.py:", "Fix the retry count in uploader.py"),
        ("I've properly ported the selector to the theme system:", "Ported the selector to the theme system"),
        ("Perfect! I added a test for the empty file.", "Added a test for the empty file."),
        ("I need to see it.", "I need to see it."),
        ("For now, let me skip the hook of the release.", "Skip the hook of the release."),
    ],
)
def test_a_lead_in_is_taken_off(sentence: str, text: str) -> None:
    assert strip_lead_in(sentence).text == text


def _summary_with(*messages: str) -> Summary:
    edit = json.dumps({"file_path": "/p/uploader.py", "old_string": "a", "new_string": "b"})
    rows = [
        ("user", "Fix the retry count in uploader.py, it is one too high. No, don't touch the parser."),
        *(("assistant", message) for message in messages),
        ("assistant", edit, "Edit", "c1"),
        ("tool", "ok", "", "c1"),
    ]
    return ExtractiveSummarizer().summarize_leaf(turns(*rows))  # type: ignore[arg-type]


def test_what_a_user_rejects_is_a_line_of_the_users() -> None:
    lines = _summary_with("The count includes the first attempt.").highlights
    assert ("decision", "user", "Don't touch the parser") in [(line.kind, line.role, line.text) for line in lines]


def test_an_intention_that_nothing_carries_out_is_shown_as_one() -> None:
    edit = json.dumps({"file_path": "/p/uploader.py", "old_string": "a", "new_string": "b"})
    summary = ExtractiveSummarizer().summarize_leaf(
        turns(
            ("assistant", edit, "Edit", "c1"),
            ("tool", "ok", "", "c1"),
            ("assistant", "The count is right. Next I'll add a `max_delay` option to the uploader."),
        )
    )
    assert any(line.text.startswith("To do: Add a `max_delay` option") for line in summary.highlights)


def test_a_request_that_nothing_follows_is_titled_as_asked() -> None:
    read = json.dumps({"file_path": "/p/a.py"})
    summary = ExtractiveSummarizer().summarize_leaf(
        turns(
            ("assistant", read, "Read", "c1"),
            ("tool", "x = 1", "", "c1"),
            ("user", "Please add a retry to the uploader in uploader.py."),
        )
    )
    assert summary.title == "Asked: Add a retry to the uploader in uploader.py"


def test_a_title_says_how_the_tests_ended() -> None:
    edit = json.dumps({"file_path": "/p/uploader.py", "old_string": "a", "new_string": "b"})
    run = json.dumps({"command": "pytest -q"})
    rows = [
        ("user", "Fix the retry count in uploader.py."),
        ("assistant", edit, "Edit", "c1"),
        ("tool", "ok", "", "c1"),
        ("assistant", run, "Bash", "c2"),
        ("tool", "12 passed in 0.30s", "", "c2"),
    ]
    summary = ExtractiveSummarizer().summarize_leaf(turns(*rows))  # type: ignore[arg-type]
    assert summary.title == "Fix the retry count in uploader.py; tests pass"
    edited_again = [*rows, ("assistant", edit, "Edit", "c3"), ("tool", "ok", "", "c3")]
    assert "tests pass" not in ExtractiveSummarizer().summarize_leaf(turns(*edited_again)).title  # type: ignore[arg-type]


@given(
    st.lists(
        st.sampled_from(
            'Fix the `retry count` in (a.py) and because of "the cache" : , the with or — so that it works'.split()
        ),
        min_size=3,
        max_size=30,
    ).map(" ".join)
)
def test_law_no_title_and_no_line_ends_open(message: str) -> None:
    title = as_title(message, 60)
    if makes_title(title, message):
        assert not _OPEN_END.search(title)
    for line in _summary_with(message).highlights:
        assert not _OPEN_END.search(line.text)
