"""The app inside a chat: a small host shows it in a sandboxed frame and passes its calls to the real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from ctxmem_mcp.page_files import app_document
from tests.page.conftest import opened

pytestmark = pytest.mark.browser

# What a host does: it renders the app in a frame without an origin, and answers its requests.
HOST = """
<!doctype html><html lang="en"><title>Host</title><body>
<iframe id="app" title="App" sandbox="allow-scripts" width="900" height="700"></iframe>
<script>
const frame = document.getElementById("app");
window.seen = [];
window.addEventListener("message", async ({ source, data }) => {
  if (source !== frame.contentWindow) return;
  const send = (message) => frame.contentWindow.postMessage({ jsonrpc: "2.0", ...message }, "*");
  window.seen.push(data.method);
  if (data.method === "ui/initialize")
    send({ id: data.id, result: {
      protocolVersion: data.params.protocolVersion, hostInfo: { name: "host", version: "1" },
      hostCapabilities: { serverTools: {} }, hostContext: { theme: "dark" } } });
  if (data.method === "ui/notifications/initialized") {
    const fields = await window.firstArguments();
    send({ method: "ui/notifications/tool-input", params: { arguments: fields } });
    send({ method: "ui/notifications/tool-result", params: await window.callTool("get_context", fields) });
  }
  if (data.method === "tools/call")
    send({ id: data.id, result: await window.callTool(data.params.name, data.params.arguments) });
});
frame.srcdoc = DOCUMENT;
</script>
"""


def caller(base: str, token: str) -> Callable[[str, dict[str, Any]], Any]:
    headers = {
        "authorization": f"Bearer {token}",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-06-18",
    }

    def call(name: str, arguments: dict[str, Any]) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        response = httpx2.post(f"{base}/mcp", json=body, headers=headers, timeout=60)
        text = response.text
        if text.startswith(("event:", "data:", ":")):
            text = next(line for line in text.splitlines() if line.startswith("data:"))[5:]
        return json.loads(text)["result"]

    return call


def test_a_host_shows_the_result_and_the_app_opens_ids_and_asks_again(
    new_page: Callable[..., Page], data: Path
) -> None:
    with opened(data) as address:
        url, _, key = address.partition("/ui/#key=")
        token = httpx2.post(f"{url}/ui/api/session", json={"key": key}).json()["token"]
        call = caller(url, token)
        listed = json.loads(call("list_conversations", {})["content"][0]["text"])["conversations"]
        (conversation,) = (one["conversation_id"] for one in listed if one["title"].startswith("Long step 0"))
        page = new_page()
        page.expose_function("callTool", call)
        page.expose_function("firstArguments", lambda: {"conversation_id": conversation, "query": "step 4321"})
        page.set_content(HOST.replace("DOCUMENT", json.dumps(app_document()).replace("</", "<\\/")))
        app = page.frame_locator("#app")
        expect(app.locator("pre.view")).to_contain_text("Long step 4321:")
        expect(app.locator("html")).to_have_css("color-scheme", "dark")
        app.get_by_role("button", name="[t4321").click()
        expect(app.locator("strong")).to_contain_text("t4321")
        expect(app.locator("pre.view")).to_contain_text("Long step 4321:")
        app.get_by_role("button", name="Back").click()
        app.locator("#query").fill("step 77")
        app.get_by_role("button", name="Ask").click()
        expect(app.locator("pre.view")).to_contain_text("Long step 77:")
        assert "ui/notifications/size-changed" in page.evaluate("window.seen")


def test_hostile_words_stay_words_in_the_app(new_page: Callable[..., Page], data: Path) -> None:
    page = new_page()
    text = '{"turns": 1, "tokens": 9, "shown_tokens": 9}\n<img src=x onerror=alert(1)><script>alert(2)</script>'
    result = {"content": [{"type": "text", "text": text}]}
    page.expose_function("callTool", lambda name, arguments: result)
    page.expose_function("firstArguments", lambda: {"conversation_id": "x"})
    page.set_content(HOST.replace("DOCUMENT", json.dumps(app_document()).replace("</", "<\\/")))
    app = page.frame_locator("#app")
    expect(app.locator("pre.view")).to_contain_text("<script>alert(2)</script>")
    assert app.locator("main img, main script").count() == 0
