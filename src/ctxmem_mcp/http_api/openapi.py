"""The OpenAPI document of the service. It is written by hand; tests compare it with the routes and their responses."""

from __future__ import annotations

from typing import Any

from ctxmem_mcp import __version__
from ctxmem_mcp.http_api import sessions, spaces
from ctxmem_mcp.http_api.request_fields import OFFSET_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX
from ctxmem_mcp.team.records import RIGHT_WORDS

_Schema = dict[str, Any]

_TEXT: _Schema = {"type": "string"}
_COUNT: _Schema = {"type": "integer", "minimum": 0}
_TIME: _Schema = {"type": "string", "format": "date-time"}
_OBJECT: _Schema = {"type": "object"}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str, **properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties, "required": required.split()}


def _closed(required: str, **properties: _Schema) -> _Schema:
    return {**_object(required, **properties), "additionalProperties": False}


def _or_null(schema: _Schema) -> _Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _text(min_chars: int, max_chars: int) -> _Schema:
    return {"type": "string", "minLength": min_chars, "maxLength": max_chars}


def _integer(low: int, high: int) -> _Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _json(schema: _Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _body(schema: _Schema, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": _json(schema)}


def _query(name: str, schema: _Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _header(name: str, schema: _Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


_ERRORS = {
    "400": "The request is invalid; nothing was changed.",
    "401": "The request has no valid token.",
    "403": "The Origin header is not allowed, the token lacks a required scope, or the principal lacks a right.",
    "404": "The object never existed, has expired or was deleted.",
    "405": "The path does not support this method.",
    "408": "The request body did not arrive in time.",
    "409": "The object was changed concurrently.",
    "413": "The request body is too large, or the memory has reached its limit.",
    "421": "The Host header is not allowed.",
    "429": "The principal exceeded its limit of requests; Retry-After is the seconds to wait.",
    "500": "Internal error; the server's log has the details.",
    "503": "The data folder is not usable at the moment.",
    "504": "There was no response in time.",
}


def _responses(schema: _Schema, error: str) -> dict[str, Any]:
    errors = {code: {"description": text, "content": _json(_ref(error))} for code, text in _ERRORS.items()}
    return {"200": {"description": "Success.", "content": _json(schema)}, **errors}


def _enveloped(data: _Schema, **fields: _Schema) -> _Schema:
    true = {"type": "boolean", "const": True}
    return _object("success data meta " + " ".join(fields), success=true, data=data, meta=_ref("Meta"), **fields)


def _page(items: _Schema) -> _Schema:
    return _enveloped(_list(items), total=_COUNT, limit=_COUNT, offset=_COUNT)


def _operation(tag: str, summary: str, responses: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"tags": [tag], "summary": summary, **fields, "responses": responses}


_PAGING = [
    _query("limit", _integer(1, PAGE_LIMIT_MAX), f"The number of items to return; {PAGE_LIMIT_DEFAULT} by default."),
    _query("offset", _integer(0, OFFSET_MAX), "The number of items to skip."),
]
_BUDGET = _integer(sessions.BUDGET_MIN, sessions.BUDGET_MAX)
_SESSION, _SPACE = _path_parameter("session_id"), _path_parameter("space_id")
_DELETED = _enveloped(_object("id deleted", id=_TEXT, deleted={"type": "boolean"}))


def _sessions(summary: str, schema: _Schema, **fields: Any) -> dict[str, Any]:
    return _operation("sessions", summary, _responses(schema, "EnvelopedError"), **fields)


def _spaces(summary: str, schema: _Schema, **fields: Any) -> dict[str, Any]:
    return _operation("spaces", summary, _responses(schema, "EnvelopedError"), **fields)


def _shared(summary: str, schema: _Schema, **fields: Any) -> dict[str, Any]:
    return _operation("shared spaces", summary, _responses(schema, "Error"), **fields)


def _gateway(summary: str, error: str = "Error", **fields: Any) -> dict[str, Any]:
    return _operation("gateway", summary, {"default": {"description": "The upstream's response."}}, **fields) | {
        "description": f"The upstream's own API. Errors of this server have the schema {error}."
    }


def _public(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return _operation("operation", summary, responses) | {"security": []}


def _gemini_paths() -> dict[str, Any]:
    """Gemini's API in its versions, and the API of Gemini CLI's Google login."""
    methods = {
        "generateContent": "Gemini's contents, with memory if requested",
        "streamGenerateContent": "The same as a stream",
        "countTokens": "Gemini's token count",
    }
    found: dict[str, Any] = {}
    for method, summary in methods.items():
        for version in ("v1beta", "v1", "v1alpha"):
            operation = _gateway(summary, parameters=[_path_parameter("model")])
            found[f"/{version}/models/{{model}}:{method}"] = {"post": operation}
        found[f"/v1internal:{method}"] = {"post": _gateway(summary)}
    return found


_RIGHT: _Schema = {"type": "string", "enum": list(RIGHT_WORDS)}
_ROLE: _Schema = {"type": "string", "enum": ["user", "assistant", "system", "tool", "function", "developer"]}
# Parts and calls of other kinds than OpenAI's are stored unchanged.
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
        settings=_or_null(_OBJECT),
    ),
    "SpaceChange": _closed(
        "", name=_text(1, spaces.NAME_CHARS_MAX), description=_or_null(_text(0, spaces.DESCRIPTION_CHARS_MAX)),
        settings=_or_null(_OBJECT),
    ),
    "Space": _object(
        "id name description settings is_default created_at",
        id=_TEXT, name=_TEXT, description=_or_null(_TEXT), settings=_OBJECT, is_default={"type": "boolean"},
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
        expiration_days={
            "type": ["number", "null"], "default": 30,
            "description": "Days to retain the conversation, clamped to 1..365.",
        },
        model_context_limit={
            "anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9]{1,9}$"}, {"type": "null"}],
            "default": 128_000,
            "description": "The model's context window in tokens. Values below 10,000 count as 10,000.",
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
    "Member": _object("principal right", principal=_TEXT, right=_or_null(_RIGHT)),
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
        "post": _operation(
            "memory",
            "Compress a message list into one system message, without calling a model",
            _responses(_ref("Compressed"), "PlainError"),
            requestBody=_body(_ref("Compress")),
            parameters=[
                _header(
                    "memory_expiration_days",
                    {"type": "number"},
                    "Days to retain the conversation, clamped to 1..365. Overrides the body.",
                )
            ],
        )
    },
    "/v1/chat/sessions": {
        "post": _sessions(
            "Create a session", _enveloped(_ref("Session")), requestBody=_body(_ref("NewSession"), required=False)
        ),
        "get": _sessions(
            "List sessions, newest first",
            _page(_ref("Session")),
            parameters=[*_PAGING, _query("space_id", _TEXT, "List only the sessions of this space.")],
        ),
    },
    "/v1/chat/sessions/{session_id}": {
        "parameters": [_SESSION],
        "get": _sessions("Get a session", _enveloped(_ref("Session"))),
        "delete": _sessions("Delete a session with all its messages", _DELETED),
    },
    "/v1/chat/sessions/{session_id}/messages": {
        "parameters": [_SESSION],
        "post": _sessions("Add a message", _enveloped(_ref("Message")), requestBody=_body(_ref("NewMessage"))),
        "get": _sessions("List the messages, oldest first, byte for byte", _page(_ref("Message")), parameters=_PAGING),
    },
    "/v1/chat/sessions/{session_id}/context": {
        "parameters": [_SESSION],
        "get": _sessions(
            "Get the messages to send to a model: the recent ones and the relevant history, within the budget",
            _enveloped(_ref("Context")),
            parameters=[
                _query(
                    "query",
                    _text(0, sessions.QUERY_CHARS_MAX),
                    "What the context is for; by default the user's last message.",
                ),
                _query("context_budget", _BUDGET, "Tokens; by default the session's budget."),
            ],
        ),
    },
    "/v1/spaces": {
        "post": _spaces("Create a space", _enveloped(_ref("Space")), requestBody=_body(_ref("NewSpace"))),
        "get": _spaces("List spaces", _page(_ref("Space")), parameters=_PAGING),
    },
    "/v1/spaces/{space_id}": {
        "parameters": [_SPACE],
        "get": _spaces("Get a space", _enveloped(_ref("Space"))),
        "put": _spaces("Update a space", _enveloped(_ref("Space")), requestBody=_body(_ref("SpaceChange"))),
        "patch": _spaces("Update a space", _enveloped(_ref("Space")), requestBody=_body(_ref("SpaceChange"))),
        "delete": _spaces("Delete a space; its sessions are kept, in no space", _DELETED),
    },
    "/v1/spaces/{space_id}/set-default": {
        "parameters": [_SPACE],
        "post": _spaces("Make this the space of new sessions that name none", _enveloped(_ref("Space"))),
    },
    "/spaces": {
        "get": _shared(
            "List the shared spaces in which you have a right",
            _object("spaces", spaces=_list(_object("name right", name=_TEXT, right=_RIGHT))),
        )
    },
    "/spaces/{space}/members": {
        "parameters": [_path_parameter("space")],
        "get": _shared("List who has a right in a shared space", _object("members", members=_list(_ref("Member")))),
    },
    "/spaces/{space}/members/{principal}": {
        "parameters": [_path_parameter("space"), _path_parameter("principal")],
        "put": _shared(
            "Give a principal a right in a shared space",
            _ref("Member"),
            requestBody=_body(_closed("right", right=_RIGHT)),
        ),
        "delete": _shared("Take a principal's right in a shared space away", _ref("Member")),
    },
    "/v1/chat/completions": {"post": _gateway("OpenAI's chat completions, with memory if requested")},
    "/v1/responses": {"post": _gateway("OpenAI's Responses, with memory if requested")},
    "/v1/messages": {"post": _gateway("Anthropic's messages, with memory if requested", "AnthropicError")},
    "/v1/messages/count_tokens": {"post": _gateway("Anthropic's token count", "AnthropicError")},
    **_gemini_paths(),
    "/v1/models": {"get": _gateway("List the upstream's models")},
    "/v1/usage": {
        "get": _operation(
            "gateway",
            "Get tokens sent and saved, and their cost, per conversation and day",
            {"200": {"description": "Success.", "content": _json(_OBJECT)}},
        )
    },
    "/mcp": {
        "post": _operation(
            "mcp",
            "The MCP server (streamable HTTP)",
            {"default": {"description": "A JSON-RPC response, or an event stream."}},
        )
    },
    "/health": {
        "get": _public(
            "Check that the process is alive", {"200": {"description": "It is alive.", "content": _json(_OBJECT)}}
        )
    },
    "/ready": {
        "get": _public(
            "Check that the server is ready",
            {
                "200": {"description": "It is ready."},
                "503": {"description": "It is stopping, or the data folder is not writable."},
            },
        )
    },
    "/metrics": {
        "get": _operation(
            "operation",
            "Get metrics in Prometheus' text format",
            {"200": {"description": "Success.", "content": {"text/plain": {}}}},
        )
    },
    "/openapi.json": {
        "get": _public("Get this document", {"200": {"description": "Success.", "content": _json(_OBJECT)}})
    },
    "/.well-known/mcp.json": {
        "get": _public(
            "Get what MCP clients need to find the server",
            {"200": {"description": "Success.", "content": _json(_OBJECT)}},
        )
    },
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "ctxmem-mcp",
        "version": __version__,
        "description": "Lossless hierarchical memory of conversations: the APIs of NanoGPT and Tensorheart, a gateway.",
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
