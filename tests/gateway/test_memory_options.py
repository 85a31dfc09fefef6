"""Memory options: what enables memory, for how many days, and that no option is forwarded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.http_api.gateway.memory_options import parse_options, strip_options

Body = dict[str, Any]


@pytest.mark.parametrize(
    ("model", "on", "sent", "days"),
    [
        ("gpt-4o", False, "gpt-4o", None),
        ("gpt-4o:memory", True, "gpt-4o", None),
        ("gpt-4o:memory-90", True, "gpt-4o", 90),
        ("gpt-4o:memory-0", True, "gpt-4o", 1),
        ("gpt-4o:memory-4000", True, "gpt-4o", 365),
        ("gpt-4o:memory--5", True, "gpt-4o", 1),
        ("gpt-4o:online:memory", True, "gpt-4o:online", None),
        ("gpt-4o:memory:online", True, "gpt-4o:online", None),
        ("m:memory-30:online/linkup-deep:reasoning-exclude", True, "m:online/linkup-deep:reasoning-exclude", 30),
        ("llama3:8b:memory-7", True, "llama3:8b", 7),
        ("memory", False, "memory", None),
        ("m:memory-x", False, "m:memory-x", None),
        ("m:memoryless", False, "m:memoryless", None),
    ],
)
def test_suffixes_enable_memory_in_any_order_and_others_are_left(
    model: str, on: bool, sent: str, days: int | None
) -> None:
    options = parse_options({"model": model}, {})
    assert (options.enabled, options.days) == (on, days)
    assert strip_options({"model": model}, options)["model"] == sent


@pytest.mark.parametrize(
    ("body", "headers", "on"),
    [
        ({"model": "m"}, {"memory": "true"}, True),
        ({"model": "m", "memory": True}, {}, True),
        ({"model": "m:memory", "memory": False}, {}, False),
        ({"model": "m:memory", "memory": False}, {"memory": "true"}, False),
        ({"model": "m:memory", "memory": "false"}, {}, False),
        ({"model": "m:memory"}, {"memory": "false"}, False),
        ({"model": "m"}, {"memory": "no idea"}, False),
    ],
)
def test_headers_and_body_enable_memory_and_false_wins(body: Body, headers: dict[str, str], on: bool) -> None:
    options = parse_options(body, headers)
    assert options.enabled is on
    assert "memory" not in strip_options(body, options)
    assert strip_options(body, options)["model"] == "m"


@pytest.mark.parametrize("value", [{"type": "store"}, [], "session-7", 2])
def test_a_memory_field_that_is_no_switch_is_forwarded(value: Any) -> None:
    body = {"model": "m", "memory": value}
    options = parse_options(body, {})
    assert (options.enabled, options.must_strip) == (False, False)
    enabled = {"model": "m:memory", "memory": value}
    assert strip_options(enabled, parse_options(enabled, {})) == body


@pytest.mark.parametrize(
    ("body", "headers", "days"),
    [
        ({"model": "m:memory-90"}, {"memory_expiration_days": "45"}, 45),
        ({"model": "m:memory-90", "memory_expiration_days": 20}, {}, 90),
        ({"model": "m:memory", "memory_expiration_days": "20"}, {}, 20),
        ({"model": "m:memory-90"}, {"memory_expiration_days": "999"}, 365),
        ({"model": "m:memory-90"}, {"memory_expiration_days": "-1"}, 1),
        ({"model": "m:memory-90"}, {"memory_expiration_days": "soon"}, 90),
    ],
)
def test_headers_days_override_a_suffix_and_are_clamped(body: Body, headers: dict[str, str], days: int) -> None:
    assert parse_options(body, headers).days == days


@pytest.mark.parametrize(
    ("limit", "budget"),
    [(None, 16_000), (128_000, 16_000), ("128000", 16_000), (200, 8_000), (80_000, 10_000), ("x", 16_000)],
)
def test_the_models_window_limits_the_budget_as_number_or_text(limit: object, budget: int) -> None:
    options = parse_options({"model": "m:memory", "model_context_limit": limit}, {})
    assert options.token_budget(16_000) == budget
    assert "model_context_limit" not in strip_options({"model": "m:memory", "model_context_limit": limit}, options)


@given(st.lists(st.sampled_from(["online", "memory", "memory-12", "8b", "x/y", "memory-x"]), max_size=5))
def test_the_upstreams_model_has_no_memory_suffix(suffixes: list[str]) -> None:
    options = parse_options({"model": ":".join(["m", *suffixes])}, {})
    assert options.model == ":".join(["m", *(s for s in suffixes if s not in ("memory", "memory-12"))])
    assert options.enabled is any(s in ("memory", "memory-12") for s in suffixes)


@given(
    st.dictionaries(
        st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text() | st.floats(), max_size=4
    )
)
def test_a_request_without_options_is_left_unchanged(body: Body) -> None:
    options = parse_options(body, {})
    assert not options.must_strip or "memory" in body or ":" in str(body.get("model"))
