"""Conversations in other languages than English: stored, searched, shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxmem_mcp import NewTurn, Settings, open_memory

TALK = {
    "de": (
        ["Wo liegen die Schlüssel?", "Die Ersatzschlüssel hängen hinter der Kellertür.", "Danke, das reicht mir."],
        "Wo hängt der Ersatzschlüssel?",
        1,
    ),
    "es": (
        ["¿Qué decidimos?", "Decidimos guardar las copias en el servidor de Lisboa.", "Vale, gracias por todo."],
        "donde guardamos cada copia",
        1,
    ),
    "ru": (
        ["Что сломалось?", "Сломалась очередь сообщений, потому что кончилось место.", "Понятно, спасибо за это."],
        "почему сломались очереди сообщения",
        1,
    ),
    "zh": (["钥匙在哪里？", "备用钥匙挂在地窖门的后面。", "好的，谢谢你。"], "备用的钥匙放哪儿了", 1),
    "ja": (
        ["鍵はどこですか？", "予備の鍵は地下室のドアの裏に掛けました。", "ありがとうございます。"],
        "予備の鍵を掛けた場所は？",
        1,
    ),
    "ko": (
        ["열쇠는 어디에 있어?", "예비 열쇠는 지하실 문 뒤에 걸어 두었습니다.", "고마워요."],
        "예비 열쇠를 어디에 두었지",
        1,
    ),
    "he": (
        ["איפה המפתחות?", "המפתח הרזרבי תלוי מאחורי הדלת של המרתף.", "תודה רבה על הכל."],
        "איפה תלוי מפתח רזרבי",
        1,
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("language", TALK)
async def test_other_forms_of_the_words_find_the_turn(tmp_path: Path, language: str) -> None:
    texts, query, at = TALK[language]
    async with open_memory(Settings(data_dir=tmp_path, embeddings="off")) as memory:
        turns = [NewTurn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)]
        await memory.sync([NewTurn("user", "Please keep the numbers short."), *turns], conversation_id="c")
        hits = await memory.search(query, conversation_id="c")
        assert hits[0].turn_id.startswith(f"t{at + 1}-")
