"""The OAuth resource server: JWTs signed with a real key, which is published at a real URL."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.auth.oauth import ResourceServer, TokenVerifier
from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings
from tests.http_api.conftest import ALICE, TOKENS

pytestmark = pytest.mark.anyio

ISSUER, AUDIENCE = "https://idp.example", "https://memory.example.com/mcp"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
FOREIGN = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Keys:
    """A server with an authorization server's key set."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.fetched = 0
        # Sent instead of the keys.
        self.malformed: bytes | None = None
        keys = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys.fetched += 1
                body = keys.malformed or json.dumps({"keys": keys.published}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks.json"

    def publish(self, kid: str, key: Any) -> None:
        public = key.public_key()
        as_jwk = RSAAlgorithm.to_jwk if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm.to_jwk
        alg = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        self.published.append(json.loads(as_jwk(public)) | {"kid": kid, "use": "sig", "alg": alg})


@pytest.fixture
def keys() -> Iterator[Keys]:
    keys = Keys()
    keys.publish("r1", RSA)
    keys.publish("e1", EC)
    thread = threading.Thread(target=keys.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield keys
    keys.server.shutdown()
    thread.join()
    keys.server.server_close()


def signed(key: Any = RSA, kid: str | None = "r1", algorithm: str = "RS256", **claims: Any) -> str:
    now = int(time.time())
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 600, "iat": now} | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, algorithm, headers={"kid": kid} if kid else None)


def oauth(keys: Keys) -> dict[str, Any]:
    return {"oauth_issuer": ISSUER, "oauth_audience": AUDIENCE, "oauth_jwks_url": keys.url}


@pytest.fixture
async def http(serve: Any, keys: Keys) -> httpx2.AsyncClient:
    client = await serve(**oauth(keys), tokens=TOKENS)
    assert isinstance(client, httpx2.AsyncClient)
    return client


async def get(http: httpx2.AsyncClient, token: str, path: str = "/v1/chat/sessions") -> httpx2.Response:
    return await http.get(path, headers={"Authorization": f"Bearer {token}"})


async def test_a_valid_token_is_accepted_whatever_its_algorithm(http: httpx2.AsyncClient) -> None:
    assert (await get(http, signed())).status_code == 200
    assert (await get(http, signed(EC, "e1", "ES256"))).status_code == 200
    assert (await get(http, signed(aud=["https://other.example", AUDIENCE]))).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.example/mcp"},
        {"aud": AUDIENCE + "/"},
        {"iss": "https://idp.example/"},
        {"iss": "https://evil.example"},
        {"exp": int(time.time()) - 3600},
        {"nbf": int(time.time()) + 3600},
        {"exp": None},
        {"sub": None},
        {"aud": None},
        {"iss": None},
        {"sub": ""},
    ],
)
async def test_a_token_with_a_wrong_claim_is_rejected(http: httpx2.AsyncClient, claims: Any) -> None:
    assert (await get(http, signed(**claims))).status_code == 401


async def test_a_forged_token_is_rejected(http: httpx2.AsyncClient, keys: Keys) -> None:
    public = str(keys.published[0]["n"])
    forged = [
        signed(FOREIGN, "r1"),
        signed(FOREIGN, "unknown"),
        signed(None, "r1", "none"),
        signed(public.encode(), "r1", "HS256"),
        signed()[:-4] + "AAAA",
        "a.b.c",
        "....",
    ]
    for token in forged:
        assert (await get(http, token)).status_code == 401


SCOPES = "memory:read memory:write"


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"scope": SCOPES}, 200),
        ({"scope": f"openid  {SCOPES}"}, 200),
        ({"scp": SCOPES.split()}, 200),
        ({"scp": SCOPES}, 200),
        ({"scope": "memory:read", "scp": ["memory:write"]}, 200),
        ({}, 403),
        ({"scope": "memory:read"}, 403),
        ({"scope": "memory:readmemory:write"}, 403),
        ({"scope": SCOPES.upper()}, 403),
        ({"scope": {SCOPES: True}, "scp": [7, None]}, 403),
        ({"scope": SCOPES, "aud": "https://other.example/mcp"}, 401),
    ],
)
async def test_a_token_needs_every_required_scope(serve: Any, keys: Keys, claims: Any, status: int) -> None:
    http = await serve(**oauth(keys), oauth_scopes=SCOPES, tokens=TOKENS)
    response = await get(http, signed(**claims))
    assert response.status_code == status
    if status != 200:
        error = "insufficient_scope" if status == 403 else "invalid_token"
        where = "https://memory.example.com/.well-known/oauth-protected-resource/mcp"
        assert response.headers["www-authenticate"] == (
            f'Bearer error="{error}", scope="{SCOPES}", resource_metadata="{where}"'
        )
    if status == 403:
        assert (await http.post("/mcp", json={}, headers={"x-api-key": signed(**claims)})).status_code == 403
        both = {"x-ctxmem-token": signed(**claims), "Authorization": f"Bearer {ALICE}"}
        assert (await http.get("/v1/chat/sessions", headers=both)).status_code == 200, "a static token needs no scope"


async def test_the_metadata_names_the_scopes(serve: Any, keys: Keys) -> None:
    path = "/.well-known/oauth-protected-resource/mcp"
    http = await serve(**oauth(keys), oauth_scopes=SCOPES)
    assert (await http.get(path)).json()["scopes_supported"] == SCOPES.split()
    http = await serve(**oauth(keys))
    assert "scopes_supported" not in (await http.get(path)).json()


@pytest.mark.parametrize("given", ['a"b', "a\\b", "ä", "a\x00"])
def test_a_scope_that_no_header_can_contain_is_rejected(given: str) -> None:
    with pytest.raises(InvalidArgument, match=r"CTXMEM_OAUTH_SCOPES.*must be OAuth scopes"):
        Settings.load({}, {"CTXMEM_OAUTH_SCOPES": given})


def test_scopes_without_oauth_are_rejected(settings: Settings) -> None:
    with pytest.raises(InvalidArgument, match="OAuth is not configured"):
        http_app(replace(settings, oauth_scopes=SCOPES), "127.0.0.1")


async def test_oauth_subjects_and_token_names_are_different_principals(http: httpx2.AsyncClient) -> None:
    """The subject alice of the issuer is not the alice of the token file."""
    mine = {"Authorization": f"Bearer {signed()}"}
    session = (await http.post("/v1/chat/sessions", json={}, headers=mine)).json()["data"]["id"]
    path = f"/v1/chat/sessions/{session}"
    assert (await get(http, signed(), path)).status_code == 200
    assert (await get(http, signed(sub="bob"), path)).status_code == 404
    assert (await get(http, ALICE, path)).status_code == 404


async def test_a_challenge_says_where_to_get_a_token(http: httpx2.AsyncClient) -> None:
    response = await http.post("/mcp", json={})
    assert response.status_code == 401
    found = response.headers["www-authenticate"].partition('resource_metadata="')[2].rstrip('"')
    assert found == "https://memory.example.com/.well-known/oauth-protected-resource/mcp"
    for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
        metadata = (await http.get(path)).json()
        assert metadata["resource"] == AUDIENCE
        assert metadata["authorization_servers"] == [ISSUER]


async def test_without_oauth_there_is_no_metadata(serve: Any) -> None:
    http = await serve(tokens=TOKENS)
    assert (await http.get("/.well-known/oauth-protected-resource/mcp")).status_code == 404
    assert "resource_metadata" not in (await http.get("/mcp")).headers["www-authenticate"]


async def test_a_new_key_is_fetched_and_unknown_key_ids_are_rate_limited(keys: Keys) -> None:
    now = 0.0
    verifier = TokenVerifier(ResourceServer(ISSUER, AUDIENCE, keys.url), lambda: now)
    assert await verifier.subject_of(signed()) == "alice"
    for _ in range(5):
        assert await verifier.subject_of(signed(FOREIGN, "new")) is None
    assert keys.fetched == 1
    keys.publish("new", FOREIGN)
    now = 31.0
    assert await verifier.subject_of(signed(FOREIGN, "new")) == "alice"
    assert keys.fetched == 2


async def test_a_malformed_key_response_leaves_known_keys_valid(keys: Keys) -> None:
    now = 0.0
    verifier = TokenVerifier(ResourceServer(ISSUER, AUDIENCE, keys.url), lambda: now)
    assert await verifier.subject_of(signed()) == "alice"
    for malformed in (b"<html>Please sign in.</html>", b"\xff", b"[]", b'{"keys": 1}'):
        keys.malformed = malformed
        now += 1000.0
        assert await verifier.subject_of(signed()) == "alice"
    assert keys.fetched == 5


async def test_without_the_issuer_only_known_keys_are_accepted(keys: Keys) -> None:
    now = 0.0
    verifier = TokenVerifier(ResourceServer(ISSUER, AUDIENCE, keys.url), lambda: now)
    assert await verifier.subject_of(signed()) == "alice"
    keys.published.clear()
    now = 1000.0
    assert await verifier.subject_of(signed()) == "alice"
    assert await verifier.subject_of(signed(EC, "e2", "ES256")) is None


@pytest.mark.parametrize("missing", ["oauth_issuer", "oauth_audience", "oauth_jwks_url"])
def test_incomplete_oauth_settings_are_rejected(settings: Settings, missing: str) -> None:
    whole = {"oauth_issuer": ISSUER, "oauth_audience": AUDIENCE, "oauth_jwks_url": "https://idp.example/jwks"}
    with pytest.raises(InvalidArgument, match="all three"):
        http_app(replace(settings, **{**whole, missing: None}), "127.0.0.1")  # type: ignore[arg-type]
