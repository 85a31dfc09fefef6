"""Standing instructions: recognised when stored, the newest of a kind part of every view and brief."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxmem_mcp import Memory, NewTurn, Settings, open_memory
from ctxmem_mcp.text.instructions import STANDING, find_in_turn, kind_of, same_kind
from ctxmem_mcp.text.language import detect

INSTRUCTIONS = {
    "en": [
        "Never amend commits.",
        "always answer in German",
        "From now on, run the linter before every commit.",
        "Please always show me the diff first.",
        "ok, and remember to update the changelog",
        "Don't ever push to main without asking me.",
        "You must always use tabs in this project.",
        "Going forward we use pnpm here.",
        "Looks good, but never commit the lock file.",
        "Stop adding comments that say what the code does.",
    ],
    "de": [
        "Antworte immer auf Deutsch.",
        "Ab jetzt bitte keine neuen Abhängigkeiten.",
        "Bitte nie direkt auf main pushen.",
        "Von nun an nur noch kurze Antworten.",
        "Niemals Commits nachträglich ändern!",
    ],
    "fr": [
        "Réponds toujours en français.",
        "À partir de maintenant, lance les tests avant chaque commit.",
        "Il ne faut jamais modifier ce fichier.",
        "N'oublie pas de mettre à jour le journal des changements.",
    ],
    "es": [
        "Responde siempre en español.",
        "A partir de ahora, ejecuta las pruebas antes de cada commit.",
        "Nunca borres las ramas remotas.",
        "Recuerda actualizar el registro de cambios.",
    ],
    "pt": [
        "Responda sempre em português.",
        "A partir de agora, rode os testes antes de cada commit.",
        "Nunca apague os ramos remotos.",
        "Lembre-se de atualizar o registro de mudanças.",
    ],
    "ru": [
        "Всегда отвечай по-русски.",
        "С этого момента запускай тесты перед каждым коммитом.",
        "Никогда не удаляй удалённые ветки.",
        "Не забывай обновлять журнал изменений.",
    ],
    "zh": [
        "请始终用中文回答。",
        "从现在开始，每次提交之前先跑测试。",
        "永远不要修改这个文件。",
        "记住：变量名一律用英文。",
    ],
    "ja": [
        "これからは必ず日本語で答えてください。",
        "今後はコミットの前にテストを実行してください。",
        "絶対にこのファイルを変更しないで。",
        "常にタブを使ってください。",
    ],
    "ko": [
        "앞으로는 항상 한국어로 답해줘.",
        "이제부터 커밋하기 전에 테스트를 실행하세요.",
        "절대 이 파일을 수정하지 마세요.",
        "반드시 탭을 사용해 주세요.",
    ],
}
NO_INSTRUCTIONS = [
    "Never mind, it works now.",
    "It always fails on the second run.",
    "I never use this folder.",
    "Do you always run the tests?",
    "Every time I run it the port is taken.",
    "Fix the crash in the parser, please.",
    "always the same error again",
    "+       // Always written in new metadata.",
    "Das ist immer noch kaputt.",
    "Nie gesehen, was ist das?",
    "Toujours pas de réponse du serveur.",
    "Siempre lo mismo con este error.",
    "我记得昨天还好好的。",
    "いつものエラーが出ました。",
    "Я никогда не видел такой ошибки.",
]


@pytest.mark.parametrize(("language", "text"), [(lang, text) for lang, texts in INSTRUCTIONS.items() for text in texts])
def test_a_standing_instruction_is_recognised(language: str, text: str) -> None:
    found = find_in_turn(text, "user", detect(text) or (language if language == "en" else None))
    assert [text[start:stop].strip(" ,") for start, stop in found] == [text]


@pytest.mark.parametrize("text", NO_INSTRUCTIONS)
def test_other_sentences_are_not_taken_for_one(text: str) -> None:
    assert find_in_turn(text, "user", detect(text)) == []


def test_only_the_sentence_that_sets_the_rule_is_taken() -> None:
    text = "The build is green again, thanks. From now on, never amend commits. Now look at the parser."
    (place,) = find_in_turn(text, "user", "en")
    assert text[place[0] : place[1]] == "From now on, never amend commits."


def test_what_agents_and_tools_say_is_no_instruction() -> None:
    assert find_in_turn("Never amend commits.", "assistant", "en") == []
    assert find_in_turn("Never amend commits.", "tool", None) == []


def test_rules_of_a_file_of_instructions_count() -> None:
    text = "/a/CLAUDE.md\n# Project\nA log parser.\n- Always run `just test` before a commit.\n- Never touch vendor/.\n"
    found = [text[start:stop] for start, stop in find_in_turn(text, "system", "en")]
    assert found == ["Always run `just test` before a commit.", "Never touch vendor/."]
    assert find_in_turn("Notes\n- Always run `just test`.\n", "system", "en") == []


def test_instructions_about_the_same_thing_are_of_one_kind() -> None:
    def kind(text: str) -> frozenset[str]:
        return kind_of(text, detect(text))

    assert same_kind(kind("Always answer in German."), kind("From now on please answer in English."))
    assert same_kind(kind("End every scene with the bells."), kind("End every scene with the height of the river."))
    assert not same_kind(kind("Never amend commits."), kind("Never push to main without asking."))


async def _history(memory: Memory) -> None:
    turns = [
        NewTurn("user", "Always answer in German."),
        NewTurn("assistant", "Verstanden."),
        NewTurn("user", "Never amend commits, I need the history for the audit."),
        NewTurn("assistant", "Understood."),
    ]
    for i in range(120):
        turns.append(NewTurn("user", f"Look at module {i} and tell me what its parser does with broken input lines."))
        turns.append(
            NewTurn("assistant", f"Module {i} reads each line, skips what it cannot parse and counts it. " * 6)
        )
    turns.insert(100, NewTurn("user", "From now on answer in English."))
    turns.insert(101, NewTurn("assistant", "OK."))
    await memory.sync(turns, conversation_id="c")
    await memory.index("c")


@pytest.mark.anyio
async def test_every_view_has_the_newest_of_each_kind(tmp_path: Path) -> None:
    async with open_memory(Settings(data_dir=tmp_path, embeddings="off")) as memory:
        await _history(memory)
        flagged = [turn.index for turn in await memory.turns("c", last=1_000) if turn.flags & STANDING]
        assert flagged == [0, 2, 100]
        for query in ("what does module 77 do with broken lines", None):
            view = await memory.view("c", query=query, token_budget=4_000)
            assert "Never amend commits, I need the history for the audit." in view.text
            assert "From now on answer in English." in view.text
            assert view.shown_tokens <= 4_000


@pytest.mark.anyio
async def test_a_brief_begins_with_them(tmp_path: Path) -> None:
    async with open_memory(Settings(data_dir=tmp_path, embeddings="off")) as memory:
        await _history(memory)
        brief = (await memory.hand_off("c", token_budget=2_000)).text
        at = brief.index("Standing instructions")
        assert at < brief.index("Goal")
        assert "- Never amend commits, I need the history for the audit. (t2-" in brief[at:]
        assert "- From now on answer in English. (t100-" in brief[at:]
        assert "- Always answer in German. (" not in brief[at : brief.index("Goal")]


@pytest.mark.anyio
async def test_only_those_of_the_branch_hold(tmp_path: Path) -> None:
    async with open_memory(Settings(data_dir=tmp_path, embeddings="off")) as memory:
        start = await memory.append(NewTurn("user", "Fix the parser, it drops the last line."), conversation_id="c")
        await memory.append(NewTurn("user", "Never amend commits."), conversation_id="c")
        await memory.append(NewTurn("user", "Always squash commits."), conversation_id="c", parent_id=start.turn_id)
        brief = (await memory.hand_off("c", token_budget=1_000)).text
        assert "- Always squash commits. (t1-" in brief
        assert "- Never amend commits." not in brief


def test_a_quotation_mark_without_its_partner_is_no_part_of_a_rule() -> None:
    text = '"Look at limiter.py and find out why. Never touch the public API of Limiter."'
    ((start, stop),) = find_in_turn(text, "user", "en")
    assert text[start:stop] == "Never touch the public API of Limiter."
