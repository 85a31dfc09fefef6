"""Makes the pictures of the page and the recording, from the example session, with the real program and Chromium.

python docs/pictures.py            writes docs/images/page-*.png and docs/images/recording.svg
python docs/pictures.py --check    exits with code 1 if what they show has changed since; needs no browser

`docs/images/pictures.json` has the digest of the sources that they were made from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from recording import record

ROOT = Path(__file__).parents[1]

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = ROOT / "docs" / "images"
RECORD = IMAGES / "pictures.json"
EXAMPLE = ROOT / "examples" / "session.jsonl"
SOURCES = ("src/ctxmem_mcp/page_files", "examples/session.jsonl", "docs/pictures.py", "docs/recording.py")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE = (1_100, 760)
QUESTION = "What errors did we encounter?"


def digest() -> str:
    """Returns the digest of the files that the pictures show."""
    found = hashlib.sha256()
    for source in SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                found.update(f"{file.relative_to(ROOT).as_posix()}\0".encode() + file.read_bytes())
    return found.hexdigest()


def is_current() -> bool:
    """Returns whether the pictures were made from the present sources."""
    return RECORD.is_file() and json.loads(RECORD.read_text(encoding="utf-8"))["sources"] == digest()


@contextmanager
def _opened_page(data: Path) -> Iterator[str]:
    """Runs `ctxmem-mcp open` on the imported example; yields its address."""
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data)]
    subprocess.run([*command, "import", str(EXAMPLE)], check=True, capture_output=True)
    process = subprocess.Popen([*command, "open", "--no-browser", "last"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def take_pictures() -> None:
    """Writes a picture of the tree and of a question, in each theme."""
    from playwright.sync_api import sync_playwright

    browser = os.environ.get("CTXMEM_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            with _opened_page(Path(folder) / theme) as address:
                context = chromium.new_context(color_scheme=theme, viewport={"width": SIZE[0], "height": SIZE[1]})
                _take(context.new_page(), address, theme)
                context.close()
        chromium.close()


def _take(page: Page, address: str, theme: str) -> None:
    page.goto(address)
    page.wait_for_selector("[role=treeitem]")
    page.locator(".chip.error").click()
    page.locator("[role=treeitem] > .label").first.click()
    page.mouse.move(0, 0)
    page.screenshot(path=IMAGES / f"page-tree-{theme}.png")
    base = page.url.partition("/tree")[0]
    page.goto(f"{base}/ask?query={quote(QUESTION)}&budget=1000")
    page.wait_for_selector("pre.view")
    page.screenshot(path=IMAGES / f"page-ask-{theme}.png")


def main() -> int:
    """Makes or checks the pictures; returns the exit code."""
    options = argparse.ArgumentParser(description="Make the pictures of the page and the recording.")
    options.add_argument("--check", action="store_true", help="only report whether they are stale")
    if options.parse_args().check:
        if not is_current():
            sys.stdout.write("stale: docs/images; run python docs/pictures.py\n")
        return 0 if is_current() else 1
    take_pictures()
    (IMAGES / "recording.svg").write_text(record(), encoding="utf-8")
    RECORD.write_text(json.dumps({"sources": digest()}) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
