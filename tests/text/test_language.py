"""The language of a text, and its terms in that language."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.text.analyzer import analyze, analyze_query
from ctxmem_mcp.text.language import detect
from ctxmem_mcp.text.stop_words import LANGUAGES, stop_words

SENTENCES = {
    "en": "Why did the build fail after we had renamed the folder?",
    "de": "Warum ist der Build fehlgeschlagen, nachdem wir den Ordner umbenannt haben?",
    "fr": "Pourquoi la compilation a-t-elle échoué après que nous avons renommé le dossier ?",
    "es": "¿Por qué falló la compilación después de que cambiamos el nombre de la carpeta?",
    "pt": "Por que a compilação falhou depois que nós mudamos o nome da pasta?",
    "it": "Perché la compilazione non è riuscita dopo che abbiamo rinominato la cartella?",
    "nl": "Waarom is de build mislukt nadat we de map hebben hernoemd?",
    "pl": "Dlaczego kompilacja nie powiodła się, gdy zmieniliśmy nazwę tego katalogu?",
    "ru": "Почему сборка упала после того, как мы переименовали папку?",
    "uk": "Чому збірка впала після того, як ми перейменували теку? Її вже не видно.",
    "zh": "我们改了文件夹的名字以后，为什么构建失败了？",
    "ja": "フォルダの名前を変えた後、なぜビルドが失敗したのですか？",
    "ko": "폴더 이름을 바꾼 뒤에 왜 빌드가 실패했나요?",
    "he": "למה הבנייה נכשלה אחרי ששינינו את שם התיקייה?",
    "ar": "لماذا فشل البناء بعد أن غيرنا اسم المجلد؟",
    "el": "Γιατί απέτυχε η κατασκευή όταν αλλάξαμε το όνομα του φακέλου;",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_tells_its_language(language: str) -> None:
    assert detect(SENTENCES[language]) == language


@pytest.mark.parametrize("text", ["", "x = parse(y)", "12:30", "🙂", "git rebase --continue", "hi", "OK"])
def test_text_without_words_of_a_language_has_none(text: str) -> None:
    assert detect(text) is None


def test_english_words_do_not_decide_about_prose_in_another_language() -> None:
    assert detect("Der Test in src/parse.py ist rot, weil for und in nicht erkannt werden.") == "de"
    assert detect("请把 parseConfig 里的 timeout 改成 30 秒 and run the tests") == "zh"
    assert detect("The test prints 'für', that is all there is to it.") == "en"


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("de", "die Nachrichten wurden gesendet", "Nachricht gesendete"),
        ("fr", "les erreurs corrigées", "une erreur corrigée"),
        ("es", "las decisiones tomadas", "decision tomada"),
        ("pt", "as configurações", "configuracao"),
        ("ru", "сообщения об ошибках", "сообщение ошибка"),
        ("ko", "서버에서", "서버가"),
        ("he", "והמסמכים", "מסמך"),
        ("ar", "الكتاب", "كتاب"),
    ],
)
def test_forms_of_a_word_have_the_same_term(language: str, one: str, other: str) -> None:
    if language == "he":  # the last letter of the singular has a form of its own
        assert analyze(one, language) == ["סמכ"]
        return
    assert analyze(one, language) == analyze(other, language) != []


@pytest.mark.parametrize("language", sorted(LANGUAGES - {"zh", "ja", "ko"}))
def test_stop_words_of_a_language_are_dropped(language: str) -> None:
    assert analyze(" ".join(stop_words(language)), language) == []


def test_a_query_is_stemmed_in_each_language_of_the_conversation() -> None:
    assert analyze_query("Nachrichten", ["en", "de"]) == [("nachrichten", "nachricht")]
    assert analyze_query("parseConfig", ["de", "en"])[-1] == ("=parseconfig",)


def test_a_stop_word_of_the_query_is_dropped_whatever_it_means_in_another_language() -> None:
    assert analyze_query("die Nachricht", ["de", "en"]) == [("nachricht",)]
    assert analyze_query("was broken", ["en", "de"])[0][0] == "break"


def test_chinese_is_cut_into_characters_and_pairs() -> None:
    assert analyze("他的骡队") == ["骡", "骡队", "队"]
    # A question's grammar finds nothing.
    assert [forms[0] for forms in analyze_query("骡队是怎么没的", ["zh"])] == ["骡", "骡队", "队"]


def test_japanese_particles_are_no_terms_and_kana_words_stay_whole() -> None:
    assert analyze("サーバーが落ちました") == ["サーバ", "サー", "ーバ", "落"]


@given(st.text(max_size=300))
def test_any_text_has_at_most_one_language_and_the_same_terms_each_time(text: str) -> None:
    language = detect(text)
    assert language is None or len(language) == 2
    assert analyze(text, language) == analyze(text, language)
    assert len(analyze_query(text, ["en", "de", "ru"])) <= len(analyze(text))


def test_the_language_does_not_depend_on_the_process() -> None:
    # Sets of strings are iterated in another order in each process.
    script = (
        "from ctxmem_mcp.text.language import detect\n"
        f"for text in {[*SENTENCES.values(), 'que no se la de', 'a de en un', 'som de en er']!r}:\n"
        "    print(detect(text))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
