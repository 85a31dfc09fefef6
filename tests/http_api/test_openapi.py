"""The OpenAPI document matches the service: it lists all routes, responses conform to it, and the service accepts what
it allows. schemathesis generates requests and checks the responses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from starlette.routing import Route

from ctxmem_mcp.http_api.errors import UPSTREAM_PATHS
from ctxmem_mcp.http_api.openapi import DOCUMENT
from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings
from tests.http_api.service_process import served
from tests.http_api.test_sessions import add_message, create

pytestmark = pytest.mark.anyio

# Handled by the SDK or by an upstream, or read by the page only.
NOT_OURS = {"/mcp", *(f"{prefix}{{path}}" for prefix in UPSTREAM_PATHS)}
PAGE = "/ui"
SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent))


def test_the_document_lists_exactly_the_routes(settings: Settings) -> None:
    routes = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in http_app(settings, "127.0.0.1").routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method not in ("HEAD", "OPTIONS")
    }
    documented = {
        (path, method)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert {one for one in routes ^ documented if one[0] not in NOT_OURS and not one[0].startswith(PAGE)} == set()


def test_schemas_are_valid_and_references_resolve() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [ref for value in part.values() for ref in references(value)]
        return [ref for item in part for ref in references(item)] if isinstance(part, list) else []

    named = {ref.removeprefix("#/components/schemas/") for ref in references(DOCUMENT)}
    assert named <= schemas.keys()


async def test_the_document_is_served(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/openapi.json")).json() == DOCUMENT


async def test_responses_match_the_document(http: httpx2.AsyncClient) -> None:
    session = (await create(http, name="n"))["id"]
    await add_message(http, session, "user", "hello")
    space = (await http.post("/v1/spaces", json={"name": "s"})).json()["data"]["id"]
    for path in ("/v1/chat/sessions", "/v1/chat/sessions/{session_id}", "/v1/chat/sessions/{session_id}/messages",
                 "/v1/chat/sessions/{session_id}/context", "/v1/spaces", "/v1/spaces/{space_id}"):  # fmt: skip
        schema = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        response = await http.get(path.replace("{session_id}", session).replace("{space_id}", space))
        validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
        assert [error.message for error in validator.iter_errors(response.json())] == [], path


@pytest.mark.parametrize("phase", ["fuzzing", pytest.param("coverage", marks=pytest.mark.soak)])
def test_schemathesis_finds_no_failure(tmp_path: Path, phase: str) -> None:
    assert SCHEMATHESIS is not None, "pip install -e '.[dev]' installs schemathesis"
    with served(tmp_path / "data", durability="normal") as base:
        ran = subprocess.run(
            [
                SCHEMATHESIS, "run", f"{base}/openapi.json", "--wait-for-schema", "20", "--max-examples", "6",
                "--seed", "1", "--no-color", "--phases", phase, "--workers", "4", "--suppress-health-check", "too_slow",
                "--include-path-regex", "^/(v1/(memory|chat/sessions|spaces)|spaces|health|ready)",
            ],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:]
