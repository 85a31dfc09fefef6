"""A real Chromium on the page of a real server, with conversations that were imported by the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

EXAMPLE = Path(__file__).parents[2] / "examples" / "session.jsonl"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> \u202egnp.exe \x1b]0;title\x07 javascript:alert(3)"
PROJECT = "/srv/shop"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Tests wait for what they expect; only a page that hangs takes this long.
WAIT_MS = 60_000


def command(data: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data), *arguments]


def rows_of(name: str, count: int) -> str:
    rows = []
    for number in range(count):
        role = ("user", "assistant")[number % 2]
        rows.append({"role": role, "content": f"{name} step {number}: the relay's timeout is {number} s. " * 3})
    return "".join(json.dumps(row) + "\n" for row in rows)


def session_rows(number: int) -> str:
    """A session of Claude Code in the folder PROJECT."""
    session = f"5e551075-0000-4000-8000-00000000000{number}"
    words = [f"Choose a port for shop {number}", f"Port 80{number}1 is free, so shop {number} uses it."]
    rows = []
    for at, (role, text) in enumerate(zip(("user", "assistant"), words, strict=True)):
        parent = None if at == 0 else f"{session[:-2]}0{number}"
        rows.append({
            "type": role, "uuid": f"{session[:-2]}{at}{number}", "parentUuid": parent, "sessionId": session,
            "cwd": PROJECT, "timestamp": f"2026-03-0{number + 1}T10:0{at}:00.000Z", "version": "2.1.0",
            "message": {"role": role, "content": text},
        })  # fmt: skip
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a real session, a hostile one and a long one."""
    folder = tmp_path_factory.mktemp("page")
    files = folder / "files"
    files.mkdir()
    hostile = [
        {"role": "user", "content": f"Fix {HOSTILE}"},
        {"role": "assistant", "content": f"```diff\n-{HOSTILE}\n+ok\n```"},
    ]
    (files / "hostile.jsonl").write_text("".join(json.dumps(row) + "\n" for row in hostile), "utf-8")
    (files / "long.jsonl").write_text(rows_of("Long", 10_000), "utf-8")
    shutil.copy(EXAMPLE, files / "example.jsonl")
    captured = folder / "captured"
    captured.mkdir()
    for number in range(2):
        (captured / f"{number}.jsonl").write_text(session_rows(number), "utf-8")
    for one in (files, captured):
        done = subprocess.run(command(folder / "data", "import", str(one)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "data"


@contextmanager
def opened(data: Path, *arguments: str) -> Iterator[str]:
    """Runs `ctxmem-mcp open` and yields the address that it prints."""
    process = subprocess.Popen(command(data, "open", "--no-browser", *arguments), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/ui/#key=\S+", address), address
        yield address
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def token_of(address: str) -> str:
    """Exchanges the key of the address for the token of its page."""
    base, _, key = address.partition("#key=")
    return str(httpx2.post(f"{base}api/session", json={"key": key}).json()["token"])


def signed_in(page: Page, address: str, token: str) -> Page:
    page.add_init_script(f"sessionStorage.setItem('ctxmem-token', {json.dumps(token)})")
    page.goto(address.partition("#")[0])
    page.wait_for_selector("ol.conversations a")
    return page


@pytest.fixture(scope="module")
def address(data: Path) -> Iterator[str]:
    """Runs a server, and yields the address of its page with the key."""
    with opened(data) as url:
        yield url


@pytest.fixture(scope="module")
def token(address: str) -> str:
    """Returns the token of the page's session, which other pages use too."""
    return token_of(address)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    path = os.environ.get("CTXMEM_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, f"No browser found. Install one of {', '.join(BROWSERS)}, or name its program in CTXMEM_CHROMIUM."
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages that fail the test if they log an error, leave the server, or break their policy."""
    faults: list[str] = []
    contexts = []

    def make(**options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: check(request.url))
        page.on("dialog", lambda dialog: dialog.accept())
        return page

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            faults.append(f"{message.text} {message.location}")

    def check(address: str) -> None:
        if not address.startswith(("http://127.0.0.1:", "data:", "blob:")):
            faults.append(f"request to {address}")

    yield make
    for context in contexts:
        context.close()
    assert faults == []
