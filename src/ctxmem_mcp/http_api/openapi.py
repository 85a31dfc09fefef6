"""The OpenAPI document of the service. Written by hand, held against the routes and their answers by tests."""

from __future__ import annotations

from typing import Any

from ctxmem_mcp import __version__
from ctxmem_mcp.http_api import sessions, spaces
from ctxmem_mcp.http_api.envelope import LISTED_DEFAULT, LISTED_MAX, OFFSET_MAX

_Schema = dict[str, Any]

_TEXT: _Schema = {"type": "string"}
_COUNT: _Schema = {"type": "integer", "minimum": 0}
_TIME: _Schema = {"type": "string", "format": "date-time"}
_ANYTHING: _Schema = {"type": "object"}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str, **properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties, "required": required.split()}


def _closed(required: str, **properties: _Schema) -> _Schema:
    return {**_object(required, **properties), "additionalProperties": False}


def _or_null(schema: _Schema) -> _Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _text(least: int, most: int) -> _Schema:
    return {"type": "string", "minLength": least, "maxLength": most}


def _whole(least: int, most: int) -> _Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _list(of: _Schema) -> _Schema:
    return {"type": "array", "items": of}


def _json(schema: _Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _body(schema: _Schema, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": _json(schema)}


def _query(name: str, schema: _Schema, words: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": words}


def _header(name: str, schema: _Schema, words: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": words}


def _step(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


_REFUSALS = {
    "400": "The request breaks a rule; nothing was changed.",
    "401": "No token, or none that this server knows.",
    "403": "A page from elsewhere asks, or the token lacks a scope.",
    "404": "It never existed, has expired or was deleted.",
    "405": "Not done here.",
    "408": "The request did not come in time.",
    "409": "Somebody else changed it meanwhile.",
    "413": "The request is too large.",
    "421": "This server is not known by that name.",
    "429": "Too many requests of this principal; Retry-After says when.",
    "500": "A fault inside the server; its log says which.",
    "503": "The data folder can't be used just now.",
    "504": "There was no answer in time.",
}


def _answers(schema: _Schema, error: str) -> dict[str, Any]:
    refusals = {code: {"description": words, "content": _json(_ref(error))} for code, words in _REFUSALS.items()}
    return {"200": {"description": "Done.", "content": _json(schema)}, **refusals}


def _enveloped(data: _Schema, **more: _Schema) -> _Schema:
    true = {"type": "boolean", "const": True}
    return _object("success data meta " + " ".join(more), success=true, data=data, meta=_ref("Meta"), **more)


def _paged(of: _Schema) -> _Schema:
    return _enveloped(_list(of), total=_COUNT, limit=_COUNT, offset=_COUNT)


def _does(tag: str, summary: str, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tags": [tag], "summary": summary, **more, "responses": answers}


_PAGE = [
    _query("limit", _whole(1, LISTED_MAX), f"How many; {LISTED_DEFAULT} where it is left out."),
    _query("offset", _whole(0, OFFSET_MAX), "How many to leave out."),
]
_BUDGET = _whole(sessions.BUDGET_MIN, sessions.BUDGET_MAX)
_SESSION, _SPACE = _step("session_id"), _step("space_id")
_DELETED = _enveloped(_object("id deleted", id=_TEXT, deleted={"type": "boolean"}))


def _sessions(summary: str, schema: _Schema, **more: Any) -> dict[str, Any]:
    return _does("sessions", summary, _answers(schema, "EnvelopedError"), **more)


def _spaces(summary: str, schema: _Schema, **more: Any) -> dict[str, Any]:
    return _does("spaces", summary, _answers(schema, "EnvelopedError"), **more)


def _gateway(summary: str, error: str = "Error", **more: Any) -> dict[str, Any]:
    return _does("gateway", summary, {"default": {"description": "What the upstream answers."}}, **more) | {
        "description": f"As the upstream's own API. Faults of ours are of the schema {error}."
    }


def _open(summary: str, answers: dict[str, Any]) -> dict[str, Any]:
    return _does("operation", summary, answers) | {"security": []}


_ROLE: _Schema = {"type": "string", "enum": ["user", "assistant", "system", "tool", "function", "developer"]}
# Parts and calls of other kinds than OpenAI's are kept as they came.
_PART: _Schema = {"type": ["object", "string"]}
_CALL = _object("function", function=_object("name", name=_TEXT))

_SCHEMAS: dict[str, _Schema] = {
    "Meta": _object("request_id processing_time_ms", request_id=_TEXT, processing_time_ms={"type": "number"}),
    "Session": _object(
        "id name context_budget message_count created_at",
        id=_TEXT, name=_or_null(_TEXT), system_prompt=_or_null(_TEXT), context_budget=_BUDGET,
        space_id=_or_null(_TEXT), message_count=_COUNT, token_count=_COUNT, created_at=_TIME, updated_at=_TIME,
        expires_at=_TIME,
    ),
    "NewSession": _closed(
        "", name=_or_null(_text(0, sessions.NAME_CHARS_MAX)),
        system_prompt=_or_null(_text(0, sessions.PROMPT_CHARS_MAX)),
        context_budget=_or_null(_BUDGET | {"default": sessions.BUDGET_DEFAULT}),
        space_id=_or_null(_text(1, sessions.SPACE_CHARS_MAX)),
    ),
    "NewMessage": _closed("role content", role={"type": "string", "enum": list(sessions.ROLES)}, content=_TEXT),
    "Message": _object("id role content token_count", id=_TEXT, role=_TEXT, content=_TEXT, token_count=_COUNT),
    "Context": _object(
        "session_id messages context_budget token_count compressed recent_messages",
        session_id=_TEXT, messages=_list(_ref("ChatMessage")), context_budget=_COUNT, token_count=_COUNT,
        compressed={"type": "boolean"}, recent_messages=_COUNT,
    ),
    "NewSpace": _closed(
        "name", name=_text(1, spaces.NAME_CHARS_MAX), description=_or_null(_text(0, spaces.DESCRIPTION_CHARS_MAX)),
        settings=_or_null(_ANYTHING),
    ),
    "SpaceChange": _closed(
        "", name=_text(1, spaces.NAME_CHARS_MAX), description=_or_null(_text(0, spaces.DESCRIPTION_CHARS_MAX)),
        settings=_or_null(_ANYTHING),
    ),
    "Space": _object(
        "id name description settings is_default created_at",
        id=_TEXT, name=_TEXT, description=_or_null(_TEXT), settings=_ANYTHING, is_default={"type": "boolean"},
        created_at=_TIME,
    ),
    "ChatMessage": {
        "anyOf": [
            _object("role content", role=_ROLE, content={"anyOf": [_TEXT, {**_list(_PART), "minItems": 1}]}),
            _object("role content", role={"type": "string", "const": "assistant"}, content={"type": "null"}),
            _object(
                "role tool_calls",
                role={"type": "string", "const": "assistant"},
                content=_or_null(_TEXT),
                tool_calls={**_list(_CALL), "minItems": 1},
            ),
        ]
    },
    "Compress": _object(
        "messages",
        messages={**_list(_ref("ChatMessage")), "minItems": 1},
        expiration_days={"type": ["number", "null"], "description": "Clamped to 1..365.", "default": 30},
        model_context_limit={
            "anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9]{1,9}$"}, {"type": "null"}],
            "description": "Values under 10,000 count as 10,000.", "default": 128_000,
        },
    ),
    "Compressed": _object(
        "messages usage",
        messages={**_list(_ref("ChatMessage")), "minItems": 1, "maxItems": 1},
        usage=_object(
            "prompt_tokens completion_tokens total_tokens prompt_tokens_details",
            prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT,
            prompt_tokens_details=_object("cached_tokens", cached_tokens=_COUNT),
        ),
    ),
    "PlainError": _closed("error", error=_TEXT),
    "EnvelopedError": _object(
        "success error", success={"type": "boolean", "const": False},
        error=_object("code message", code=_TEXT, message=_TEXT),
    ),
    "Error": _object("error", error=_object("message type code", message=_TEXT, type=_TEXT, code=_TEXT)),
    "AnthropicError": _object("type error", type=_TEXT, error=_object("type message", type=_TEXT, message=_TEXT)),
}  # fmt: skip

_PATHS: dict[str, Any] = {
    "/v1/memory": {
        "post": _does(
            "memory",
            "Compress a message list into one system message, without a model",
            _answers(_ref("Compressed"), "PlainError"),
            requestBody=_body(_ref("Compress")),
            parameters=[_header("memory_expiration_days", {"type": "number"}, "Beats the body's; clamped to 1..365.")],
        )
    },
    "/v1/chat/sessions": {
        "post": _sessions(
            "Create a session", _enveloped(_ref("Session")), requestBody=_body(_ref("NewSession"), required=False)
        ),
        "get": _sessions(
            "List sessions, newest first",
            _paged(_ref("Session")),
            parameters=[*_PAGE, _query("space_id", _TEXT, "Of this space only.")],
        ),
    },
    "/v1/chat/sessions/{session_id}": {
        "parameters": [_SESSION],
        "get": _sessions("Get a session", _enveloped(_ref("Session"))),
        "delete": _sessions("Delete a session and every byte of what was said in it", _DELETED),
    },
    "/v1/chat/sessions/{session_id}/messages": {
        "parameters": [_SESSION],
        "post": _sessions("Add a message", _enveloped(_ref("Message")), requestBody=_body(_ref("NewMessage"))),
        "get": _sessions("The messages, oldest first, to the byte", _paged(_ref("Message")), parameters=_PAGE),
    },
    "/v1/chat/sessions/{session_id}/context": {
        "parameters": [_SESSION],
        "get": _sessions(
            "The messages to send a model: the recent ones and what matters of the history, within the budget",
            _enveloped(_ref("Context")),
            parameters=[
                _query("query", _text(0, sessions.QUERY_CHARS_MAX), "What for; left out: what was said last."),
                _query("context_budget", _BUDGET, "Instead of the session's."),
            ],
        ),
    },
    "/v1/spaces": {
        "post": _spaces("Create a space", _enveloped(_ref("Space")), requestBody=_body(_ref("NewSpace"))),
        "get": _spaces("List spaces", _paged(_ref("Space")), parameters=_PAGE),
    },
    "/v1/spaces/{space_id}": {
        "parameters": [_SPACE],
        "get": _spaces("Get a space", _enveloped(_ref("Space"))),
        "put": _spaces("Change a space", _enveloped(_ref("Space")), requestBody=_body(_ref("SpaceChange"))),
        "patch": _spaces("Change a space", _enveloped(_ref("Space")), requestBody=_body(_ref("SpaceChange"))),
        "delete": _spaces("Delete a space; its sessions stay, in none", _DELETED),
    },
    "/v1/spaces/{space_id}/set-default": {
        "parameters": [_SPACE],
        "post": _spaces("Link sessions to this space that name none", _enveloped(_ref("Space"))),
    },
    "/v1/chat/completions": {"post": _gateway("OpenAI's chat completions, with memory where it is asked for")},
    "/v1/messages": {"post": _gateway("Anthropic's messages, with memory", "AnthropicError")},
    "/v1/messages/count_tokens": {"post": _gateway("Anthropic's count of tokens", "AnthropicError")},
    "/v1/models": {"get": _gateway("The upstream's models")},
    "/v1/usage": {
        "get": _does(
            "gateway",
            "What was sent and saved, and what it cost, per conversation and day",
            {"200": {"description": "Done.", "content": _json(_ANYTHING)}},
        )
    },
    "/mcp": {
        "post": _does(
            "mcp",
            "The MCP server (streamable HTTP)",
            {"default": {"description": "JSON-RPC, or a stream of it."}},
        )
    },
    "/health": {"get": _open("Is the process alive", {"200": {"description": "Yes.", "content": _json(_ANYTHING)}})},
    "/ready": {
        "get": _open("Can it serve", {"200": {"description": "Yes."}, "503": {"description": "No, or not any more."}})
    },
    "/metrics": {
        "get": _does(
            "operation",
            "Figures in Prometheus' text format",
            {"200": {"description": "Done.", "content": {"text/plain": {}}}},
        )
    },
    "/openapi.json": {"get": _open("This document", {"200": {"description": "Done.", "content": _json(_ANYTHING)}})},
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "ctxmem-mcp",
        "version": __version__,
        "description": "Lossless hierarchical memory of conversations: the seed systems' APIs and a gateway.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "security": [{"bearer": []}, {"key": []}, {"own": []}, {}],
    "paths": _PATHS,
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            "own": {"type": "apiKey", "in": "header", "name": "x-ctxmem-token"},
        },
    },
}
