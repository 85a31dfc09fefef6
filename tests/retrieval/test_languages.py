"""Questions in other languages than English: what they ask for."""

from __future__ import annotations

import pytest

from ctxmem_mcp.retrieval.query import Intent, parse
from ctxmem_mcp.retrieval.selection import RESERVE_OF_ORDER, reserve_of


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("Warum haben wir das Format gewechselt?", Intent.WHY),
        ("Wann war der Umzug des Servers?", Intent.WHEN),
        ("¿Por qué cambiamos el formato de los archivos?", Intent.WHY),
        ("¿Qué decidimos sobre las copias?", Intent.DECISION),
        ("Por que a compilação falhou depois que mudamos a pasta?", Intent.ERROR),
        ("Pourquoi avons-nous changé de format ?", Intent.WHY),
        ("Почему мы поменяли формат файлов?", Intent.WHY),
        ("为什么我们换了格式？", Intent.WHY),
        ("什么时候搬的服务器？", Intent.WHEN),
        ("なぜ形式を変えたのですか？", Intent.WHY),
        ("왜 형식을 바꿨나요?", Intent.WHY),
        ("In what order did I bring up the three features?", Intent.ORDER),
        ("In welcher Reihenfolge habe ich die Funktionen erwähnt?", Intent.ORDER),
        ("我是按什么顺序提到这些功能的？", Intent.ORDER),
    ],
)
def test_a_question_states_its_intent(text: str, intent: Intent) -> None:
    assert intent in parse(text).intents


@pytest.mark.parametrize(
    "text",
    [
        "Welche Fehler gab es?", "¿Qué errores tuvimos?", "Quais erros nós tivemos?", "Какие были ошибки?",
        "Quelles erreurs avons-nous rencontrées ?", "我们遇到了哪些错误？", "どんなエラーが発生しましたか？",
        "어떤 오류가 있었나요?",
    ],
)  # fmt: skip
def test_a_question_that_names_nothing_is_answered_from_the_summaries(text: str) -> None:
    assert parse(text).summary_kinds >= {"error"}


@pytest.mark.parametrize(
    "text", ["Welche Fehler gab es im Parser?", "解析器遇到了哪些错误？", "Quelles erreurs dans le parseur ?"]
)
def test_a_question_that_names_something_is_not(text: str) -> None:
    assert not parse(text).summary_kinds


def test_an_order_is_looked_for_in_the_users_words() -> None:
    assert reserve_of(parse("In which order did I mention the features?")) == RESERVE_OF_ORDER
    assert reserve_of(parse("In which order does the parser read its files?")) != RESERVE_OF_ORDER
