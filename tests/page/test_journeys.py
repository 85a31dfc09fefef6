"""What a person does on the page, done by a real browser: find, open, read, ask, compare, go back, keep, forget."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import HOSTILE, command, opened, rows_of, signed_in

pytestmark = pytest.mark.browser

THEMES = ["light", "dark"]
WIDTHS = [360, 800, 1_280]


@pytest.fixture
def page(new_page: Callable[..., Page], address: str, token: str) -> Page:
    return signed_in(new_page(), address, token)


def open_conversation(page: Page, text: str) -> None:
    page.fill("#filter", text)
    page.locator("ol.conversations a").first.click()
    page.wait_for_selector("[role=tree] [role=treeitem]")


def test_the_address_of_open_works_once(new_page: Callable[..., Page], data: Path) -> None:
    with opened(data) as url:
        first = new_page()
        first.goto(url)
        first.wait_for_selector("ol.conversations a")
        assert "key" not in first.url
        first.reload()
        first.wait_for_selector("ol.conversations a")
        base, _, key = url.partition("#key=")
        assert httpx2.post(f"{base}api/session", json={"key": key}).status_code == 400


def test_a_conversation_is_opened_down_to_the_words_of_a_turn(page: Page) -> None:
    open_conversation(page, "Token estimation")
    assert page.locator(".bands .band").count() >= 1
    page.locator("[role=treeitem] > .label").first.click()
    while not page.locator("article.turn").count():
        page.locator("[role=treeitem] [role=treeitem] > .label, [role=treeitem] article.turn").first.click()
    turn = page.locator("article.turn").first
    assert turn.locator(".content").inner_text().strip()
    assert turn.get_attribute("id")


def test_the_tree_works_with_keys_alone(page: Page) -> None:
    open_conversation(page, "long")
    page.locator("[role=treeitem]").first.focus()
    page.keyboard.press("ArrowDown")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("[role=treeitem][aria-expanded=true]")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") != second
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("[role=treeitem][aria-expanded=true]").count() == 0


def test_kinds_of_lines_are_marked_listed_and_opened(page: Page) -> None:
    open_conversation(page, "Token estimation")
    chip = page.locator(".chip").first
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    line = page.locator(".lines button").first
    words = line.inner_text()
    line.click()
    page.wait_for_selector("[role=treeitem][aria-expanded=true] article.turn")
    assert words


def test_a_question_gives_the_view_that_an_agent_gets(page: Page, data: Path) -> None:
    open_conversation(page, "long")
    page.click("text=Ask")
    page.fill("#query", "step 4321")
    page.keyboard.press("Enter")
    expect(page.locator("pre.view")).to_contain_text("Long step 4321:")
    shown = page.locator("pre.view").inner_text()
    done = subprocess.run(
        command(data, "context", page.url.split("/")[-2], "step 4321", "--budget", "8000"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.strip() == done.stdout.split("\n", 1)[1].strip()
    page.locator("#budget").fill("1")
    expect(page.locator(".meter .quiet")).to_contain_text("of a budget of 1,000")
    page.locator("#moment").fill("100")
    expect(page.locator("output[for=moment]")).to_have_text("turn 100")
    expect(page.locator("pre.view")).not_to_contain_text("step 4321")
    page.locator("pre.view a").first.click()
    page.wait_for_selector("article.turn")


def test_search_finds_words_and_opens_their_turn(page: Page) -> None:
    page.fill("#search-text", "step 7777")
    page.keyboard.press("Enter")
    page.wait_for_selector("ol.hits a")
    page.locator("ol.hits a").first.click()
    page.wait_for_selector("article.turn:focus")
    assert "step 7777" in page.locator("article.turn:focus").inner_text()


def test_a_brief_is_shown(page: Page) -> None:
    open_conversation(page, "Token estimation")
    page.click("text=Hand-off")
    expect(page.locator("pre.view")).to_contain_text("The last words")


def test_going_back_makes_a_branch_that_can_be_compared(page: Page, data: Path, tmp_path: Path) -> None:
    (tmp_path / "fork.jsonl").write_text(rows_of("Fork", 8), "utf-8")
    subprocess.run(command(data, "import", str(tmp_path)), capture_output=True, check=True)
    page.reload()
    open_conversation(page, "fork")
    page.locator("[role=treeitem] > .label").first.click()
    page.wait_for_selector("article.turn")
    page.locator("article.turn").nth(2).get_by_text("Go back to here").click()
    expect(page.locator("#status")).to_contain_text("is the head")
    page.click("text=Branches")
    page.wait_for_selector("ol.branches li")
    page.get_by_text("Last turns").first.click()
    page.wait_for_selector(".compared article.turn")


def test_days_are_set_and_a_conversation_is_forgotten_after_its_id_was_typed(
    page: Page, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "gone.jsonl").write_text(rows_of("Gone", 4), "utf-8")
    subprocess.run(command(data, "import", str(tmp_path)), capture_output=True, check=True)
    page.reload()
    open_conversation(page, "gone")
    page.fill("#days", "5")
    page.click("text=Set")
    expect(page.locator("#status")).to_have_text("Kept for 5 days after the last turn.")
    page.click("text=Forget…")
    page.fill("#confirm", page.locator("dialog code").inner_text())
    page.locator("dialog button.danger").click()
    page.wait_for_selector("dialog h2:has-text('Forgotten')")
    assert "4 turns" in page.locator("dialog").inner_text()
    page.locator("dialog button").click()
    page.wait_for_selector("ol.conversations")
    assert "gone" not in page.locator("ol.conversations").inner_text().lower()


def test_new_turns_appear_while_an_agent_works(page: Page, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "live.jsonl"
    file.write_text(rows_of("Live", 4), "utf-8")
    subprocess.run(command(data, "import", str(file)), capture_output=True, check=True)
    page.reload()
    open_conversation(page, "live")
    file.write_text(rows_of("Live", 6), "utf-8")
    subprocess.run(command(data, "import", str(file)), capture_output=True, check=True)
    page.wait_for_selector("text=2 new turns.")
    page.click("button:has-text('Show') >> nth=0")
    expect(page.locator("main")).to_contain_text("6 turns")


def test_usage_is_shown_and_saved(page: Page) -> None:
    page.click("text=Usage")
    page.wait_for_selector("dl.totals")
    assert "conversations" in page.locator("dl.totals").inner_text()


def test_hostile_words_stay_words(page: Page) -> None:
    open_conversation(page, "onerror")
    page.locator("[role=treeitem] > .label").first.click()
    page.wait_for_selector("article.turn")
    shown = page.locator("article.turn").first.locator(".content").inner_text()
    assert "<script>alert(2)</script>" in shown
    assert HOSTILE.split(" ")[0] in shown
    assert page.locator("main script, main iframe, main img").count() == 0


@pytest.mark.parametrize("theme", THEMES)
def test_no_page_has_a_fault_that_axe_finds(
    new_page: Callable[..., Page], address: str, token: str, theme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    page = signed_in(new_page(color_scheme=theme), address, token)
    faults = []
    for step in ("list", "tree", "ask", "branches", "compare", "usage", "projects", "project"):
        if step == "tree":
            open_conversation(page, "Token estimation")
            page.locator("[role=treeitem] > .label").first.click()
            page.locator(".chip").first.click()
        elif step == "ask":
            page.click("text=Ask")
            page.wait_for_selector("pre.view")
        elif step == "branches":
            page.click("text=Branches")
            page.wait_for_selector("ol.branches")
        elif step == "compare":
            page.click("text=Compare")
            page.wait_for_selector("pre.view >> nth=1")
        elif step == "usage":
            page.click("text=Usage")
            page.wait_for_selector("dl.totals")
        elif step == "projects":
            page.click("text=Projects")
            page.wait_for_selector("ol.conversations a")
        elif step == "project":
            page.locator("ol.conversations a").first.click()
            page.wait_for_selector("pre.view")
        found = Axe().run(page).response["violations"]
        faults += [(step, one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found]
    assert faults == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(new_page: Callable[..., Page], address: str, token: str, width: int) -> None:
    page = signed_in(new_page(viewport={"width": width, "height": 800}), address, token)
    open_conversation(page, "onerror")
    page.locator("[role=treeitem] > .label").first.click()
    page.wait_for_selector("article.turn")
    for tab in ("Ask", "Compare", "Branches"):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click(f"text={tab}")
        page.wait_for_selector("pre.view, ol.branches")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_of_a_long_conversation_only_what_is_seen_is_built(page: Page) -> None:
    open_conversation(page, "long")
    assert page.evaluate("document.querySelectorAll('*').length") < 2_500
