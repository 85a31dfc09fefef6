"""Further journeys through the page: projects, session starts, redaction, comparing moments, usage as files."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from ctxmem_mcp import usage_ledger
from tests.gateway.harness import answers_with, gateway, long_history, upstream_stub
from tests.page.conftest import PROJECT, command, opened, rows_of, signed_in, token_of

pytestmark = pytest.mark.browser


@pytest.fixture
def page(new_page: Callable[..., Page], address: str, token: str) -> Page:
    return signed_in(new_page(accept_downloads=True), address, token)


def test_a_question_to_a_project_gives_the_view_that_an_agent_gets(page: Page, data: Path) -> None:
    page.click("text=Projects")
    page.click(f'text="{PROJECT}"')
    page.fill("#query", "which port for shop 1")
    page.keyboard.press("Enter")
    expect(page.locator("pre.view")).to_contain_text("Port 8011 is free")
    asked = command(data, "context", "which port for shop 1", "--project", PROJECT, "--budget", "8000")
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert page.locator("pre.view").inner_text().strip() == done.stdout.split("\n", 1)[1].strip()
    page.locator("pre.view a").first.click()
    page.wait_for_selector("article.turn:focus")
    assert "shop" in page.locator("article.turn:focus").inner_text()


def test_the_hand_off_of_a_project_and_what_a_new_session_there_is_given(page: Page) -> None:
    page.click("text=Projects")
    page.click(f'text="{PROJECT}"')
    page.click("text=Hand-off")
    expect(page.locator("pre.view")).to_contain_text("shop 1")
    page.click("text=New session")
    expect(page.locator("pre.view")).to_contain_text("the last session in this folder")
    expect(page.locator("pre.view")).to_contain_text("Port 8011 is free")
    page.locator("pre.view a").first.click()
    page.wait_for_selector("article.turn:focus")


def test_a_turn_is_redacted_after_a_question_and_the_receipt_is_shown(page: Page, data: Path, tmp_path: Path) -> None:
    rows = [{"role": "user", "content": f"Secretive note {word}"} for word in ("one zanzibar", "two")]
    (tmp_path / "secret.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    subprocess.run(command(data, "import", str(tmp_path)), capture_output=True, check=True)
    page.reload()
    page.fill("#filter", "secretive")
    page.locator("ol.conversations a").first.click()
    page.locator("[role=treeitem] > .label").first.click()
    page.locator("article.turn").first.get_by_text("Redact…").click()
    assert "can't be undone" in page.locator("dialog").inner_text()
    page.locator("dialog").get_by_text("Cancel").click()
    assert "zanzibar" in page.locator("article.turn").first.inner_text()
    page.locator("article.turn").first.get_by_text("Redact…").click()
    page.locator("dialog button.danger").click()
    page.wait_for_selector("dialog h2:has-text('Redacted')")
    assert "1 turn in 1 conversation" in page.locator("dialog").inner_text()
    page.locator("dialog button").click()
    expect(page.locator("article.turn")).to_have_count(0)  # the conversation is drawn again, closed
    page.locator("[role=treeitem] > .label").first.click()
    expect(page.locator("article.turn").first).to_contain_text("[redacted")
    assert not [file for file in data.rglob("*") if file.is_file() and b"zanzibar" in file.read_bytes()]


def test_redacting_needs_the_pages_own_token(address: str, token: str) -> None:
    base = address.partition("#")[0]
    headers = {"authorization": f"Bearer {token}"}
    (one,) = [
        found
        for found in httpx2.get(f"{base}api/conversations", headers=headers).json()["conversations"]
        if found["conversation_id"].endswith("000000000000")
    ]
    path = f"{base}api/conversations/{one['conversation_id']}/redact"
    assert httpx2.post(path, headers=headers, json={"turn_id": one["head"]}).status_code == 400


def test_two_moments_are_compared(page: Page) -> None:
    page.fill("#filter", "long")
    page.locator("ol.conversations a").first.click()
    page.click("text=Compare")
    page.fill("#query", "step 4321")
    page.locator("#left-moment").fill("100")
    expect(page.locator("output[for=left-moment]")).to_have_text("turn 100")
    left, right = page.locator(".compared section").first, page.locator(".compared section").last
    expect(left).to_contain_text("turn 100")
    expect(right.locator("pre")).to_contain_text("step 4321")
    expect(left.locator("pre")).not_to_contain_text("step 4321")
    only = right.locator("details").text_content() or ""
    assert "Only here: " in only
    assert "t4321-" in only
    assert right.locator(".only-here", has_text="Long step 4321:").count() >= 1


def test_two_branches_are_compared(page: Page, data: Path, tmp_path: Path) -> None:
    (tmp_path / "parted.jsonl").write_text(rows_of("Parted", 6), "utf-8")
    subprocess.run(command(data, "import", str(tmp_path)), capture_output=True, check=True)
    page.reload()
    page.fill("#filter", "parted")
    page.locator("ol.conversations a").first.click()
    page.locator("[role=treeitem] > .label").first.click()
    page.locator("article.turn").nth(1).get_by_text("Go back to here").click()
    expect(page.locator("#status")).to_contain_text("is the head")
    page.click("text=Compare")
    expect(page.locator(".compared section").first).to_contain_text("Parted step 5")
    expect(page.locator(".compared section").last).to_contain_text("Nothing that the other lacks")


def test_usage_is_saved_per_day_project_and_agent(page: Page, data: Path) -> None:
    session = "5e551075-0000-4000-8000-000000000001"
    usage_ledger.add(data, usage_ledger.LedgerEntry(20_514, session, 2, 9_000, 100, 6_000, 50_000))
    page.click("text=Usage")
    for key, value in (("Day", "2026-03-02"), ("Project", PROJECT), ("Agent", "claude-code")):
        page.select_option("#by", label=key)
        expect(page.locator("table th").first).to_have_text({"Day": "date"}.get(key, key.lower()))
        for file in ("stored", "sent"):
            with page.expect_download() as saving:
                page.click(f"text=Save {file}-per-")
            rows = list(csv.reader(Path(saving.value.path()).read_text("utf-8").splitlines()))
            assert value in [row[0] for row in rows[1:]], (key, file, rows)
    with page.expect_download() as saving:
        page.click("text=Save usage.json")
    report = json.loads(Path(saving.value.path()).read_text("utf-8"))
    assert report["data"][0]["project"] == PROJECT
    assert report["data"][0]["agent"] == "claude-code"


def test_what_the_model_was_sent_is_shown_with_the_part_that_the_cache_served(
    new_page: Callable[..., Page], tmp_path: Path
) -> None:
    messages = long_history(30)
    with upstream_stub(answers_with("It is fixed.")) as stub, gateway(tmp_path, stub, gateway_tokens=4_000) as running:
        for end in (3, 35, 51, len(messages)):
            body = {"model": "m:memory", "messages": messages[:end]}
            httpx2.post(f"{running.url}/v1/chat/completions", json=body, timeout=100)
    with opened(tmp_path) as url:
        page = signed_in(new_page(), url, token_of(url))
        page.locator("ol.conversations a").first.click()
        page.click("text=Sent")
        expect(page.locator("ol.branches li")).to_have_count(4)
        newest = page.locator("ol.branches li").first
        expect(newest).to_contain_text("53 % from the cache")
        expect(newest).to_contain_text("compacted further here")
        assert newest.locator(".from-cache").count() >= 1
        added = page.locator("ol.branches li").nth(1)
        expect(added).to_contain_text("compacted further here")  # with a part that was added to the view of request 2
        added.get_by_text("Request 3").click()
        expect(page.locator("main")).to_contain_text("For the turns 30–45 the gateway added short parts to this view")
        newest.get_by_text("Request 4").click()
        expect(page.locator("main table")).to_contain_text("Pinned texts and view")
        page.locator("summary", has_text="The view up to").click()
        expect(page.locator("pre.view")).to_contain_text("token1")
        page.locator("summary", has_text="sent unchanged").click()
        expect(page.locator("article.turn").last).to_contain_text("And now?")
        page.close()  # it would ask for new turns after the server has ended
