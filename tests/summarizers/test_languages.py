"""Requests, decisions, findings, endings and errors in other languages than English."""

from __future__ import annotations

import pytest

from ctxmem_mcp.summarizers import sentence_scores
from ctxmem_mcp.summarizers.error_extraction import find_pasted_errors
from ctxmem_mcp.summarizers.highlights import rate_work_sentence
from ctxmem_mcp.summarizers.sentences import split_sentences

DONE = [
    "Der Fehler ist behoben und alle Tests laufen wieder durch.",
    "L'erreur est corrigée et tous les tests passent maintenant.",
    "El error está corregido y todas las pruebas pasan ya.",
    "O erro foi corrigido e todos os testes passam agora.",
    "Ошибка исправлена, и теперь все тесты проходят.",
    "错误已经修复，所有的测试都通过了。",
    "エラーを修正しました。テストはすべて通りました。",
    "오류를 수정했고 테스트가 모두 통과했습니다.",
]
DECISIONS = [
    "Wir haben entschieden, die Daten in SQLite zu speichern.",
    "Nous avons décidé de garder les données dans SQLite.",
    "Hemos decidido guardar los datos en SQLite por ahora.",
    "Nós decidimos guardar os dados no SQLite por enquanto.",
    "Мы решили хранить данные в SQLite, а не в файлах.",
    "我们决定把数据存在 SQLite 里，而不是文件里。",
    "データは SQLite に保存することにしました。",
    "데이터는 SQLite에 저장하기로 했습니다.",
]
FINDINGS = [
    "Die Ursache ist ein Puffer, der nie geleert wird.",
    "Le problème vient du tampon qui n'est jamais vidé.",
    "El problema es que el búfer no se vacía nunca.",
    "O problema é que o buffer não é esvaziado nunca.",
    "Причина в том, что буфер никогда не очищается.",
    "原因是缓冲区一直没有被清空。",
    "原因はバッファが空にされないことです。",
    "원인은 버퍼가 비워지지 않는 것입니다.",
]
RULES = [
    "Die Ausgabe darf nicht länger als zwei Zeilen sein.",
    "Il ne faut pas changer les fichiers générés.",
    "No hay que cambiar los archivos generados a mano.",
    "Não se deve mudar os arquivos gerados à mão.",
    "Сгенерированные файлы нельзя менять руками.",
    "生成的文件不要手工修改。",
    "生成されたファイルは手で変更しないでください。",
    "생성된 파일은 손으로 고치지 말고 그대로 둬야 합니다.",
]


@pytest.mark.parametrize("sentence", DONE)
def test_an_ending_is_recognised(sentence: str) -> None:
    assert sentence_scores.states_completion(sentence)
    assert sentence_scores.score_resolution(sentence) >= 2.0
    assert rate_work_sentence(sentence, closing=True)[1] == "outcome"


@pytest.mark.parametrize("sentence", DECISIONS)
def test_a_decision_is_recognised(sentence: str) -> None:
    assert sentence_scores.states_choice(sentence)
    assert rate_work_sentence(sentence, closing=False)[1] == "decision"


@pytest.mark.parametrize("sentence", FINDINGS)
def test_a_finding_is_recognised(sentence: str) -> None:
    assert sentence_scores.states_finding(sentence)


@pytest.mark.parametrize("sentence", RULES)
def test_a_constraint_is_recognised(sentence: str) -> None:
    assert sentence_scores.states_rule(sentence)


@pytest.mark.parametrize(
    "line",
    [
        "Fehler: Datei nicht gefunden",
        "tar: Fehler: unerwartetes Ende",
        "erreur : fichier introuvable",
        "Error: no existe el archivo",
        "erro: arquivo inexistente",
        "ошибка: файл не найден",
        "错误：找不到文件",
        "エラー: ファイルが見つかりません",
        "오류: 파일을 찾을 수 없습니다",
    ],
)
def test_an_error_is_recognised(line: str) -> None:
    found = find_pasted_errors(3, f"building\n{line}\ndone")
    assert [error.text for error in found] == [line]


def test_no_question_decides_anything() -> None:
    assert not sentence_scores.states_choice("Haben wir entschieden, die Daten in SQLite zu speichern?")
    assert not sentence_scores.states_rule("生成的文件不要手工修改吗？")


def test_russian_sentences_are_told_apart() -> None:
    assert split_sentences("Тесты проходят. Осталось обновить журнал.") == [
        "Тесты проходят.",
        "Осталось обновить журнал.",
    ]
