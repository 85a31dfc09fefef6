"""The examples in the documents work, and the tests that the table of promises names exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
HTTP = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
TABLE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
CURLS = re.findall(r"^ *(curl (?:.*\\\n)*.*)$", HTTP, re.MULTILINE)

pytestmark = pytest.mark.anyio


def request_of(curl: str) -> tuple[str, str, dict[str, str], str]:
    """Returns method, path, headers and body of a curl command."""
    words = shlex.split(curl.replace("\\\n", " "))[1:]
    method, url, headers, body = "GET", "", {}, ""
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = words.pop(0)
        else:
            url = word
    return method, url.partition(":8377")[2], headers, body


@pytest.mark.parametrize("curl", CURLS)
async def test_every_curl_example_succeeds(http: httpx2.AsyncClient, curl: str) -> None:
    method, path, headers, body = request_of(curl)
    response = await http.request(method, path, headers=headers, content=body)
    assert response.status_code == 200, response.text


async def test_the_response_shown_has_the_fields_of_a_real_one(http: httpx2.AsyncClient) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", HTTP, re.DOTALL)
    shown: dict[str, Any] = json.loads(block)
    method, path, headers, body = request_of(next(curl for curl in CURLS if "sessions" in curl))
    real = (await http.request(method, path, headers=headers, content=body)).json()
    assert (shown.keys(), shown["data"].keys(), shown["meta"].keys()) == (
        real.keys(), real["data"].keys(), real["meta"].keys()
    )  # fmt: skip


def test_the_table_has_every_row_once() -> None:
    rows = re.findall(r"^\| ([NT]\d+) \|", TABLE, re.MULTILINE)
    assert rows == [f"N{i}" for i in range(1, 35)] + [f"T{i}" for i in range(1, 15)]


@pytest.mark.parametrize("reference", sorted(set(re.findall(r"`(tests/[^`]+)`", TABLE))))
def test_every_test_named_in_the_table_exists(reference: str) -> None:
    path, _, wanted = reference.partition(" -k ")
    assert (ROOT / path).exists()
    names = re.findall(r"def (test_\w+)", (ROOT / path).read_text(encoding="utf-8")) if wanted else []
    for part in wanted.strip('"').split(" or ") if wanted else []:
        assert any(part in name for name in names), f"no test of {path} is named ...{part}..."
