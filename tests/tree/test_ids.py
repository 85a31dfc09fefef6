"""Ids depend on the content and everything before it. The golden ids must never change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import Node, id_digits
from ctxmem_mcp.tree import node_digest, turn_digest

text = st.text(max_size=20)


def test_golden_ids() -> None:
    first = turn_digest(b"", "user", None, None, "hello")
    second = turn_digest(first, "assistant", "Bash", "call_1", '{"command": "ls"}')
    leaf = node_digest(0, [first, second])
    assert (first.hex(), second.hex(), leaf.hex(), id_digits(first)) == GOLDEN


GOLDEN = (
    "b101db1c93154822fbd34f45ac1af221",
    "6b03481816d43515aaa38200704c7761",
    "b87f181cba15ef22b5addff1af053144",
    "535463168034",
)


@given(text, text, text, text)
def test_moving_text_between_fields_changes_the_digest(a: str, b: str, c: str, d: str) -> None:
    one = turn_digest(b"", "user", a, b, c + d)
    assert one != turn_digest(b"", "user", a + b, "", c + d) or not b
    assert one != turn_digest(b"", "user", a, b + c, d) or not c


@given(text)
def test_a_different_predecessor_gives_a_different_id(content: str) -> None:
    assert turn_digest(b"", "user", None, None, content) != turn_digest(b"x" * 16, "user", None, None, content)


def test_salt_separates_principals() -> None:
    assert turn_digest(b"", "user", None, None, "hi", b"one") != turn_digest(b"", "user", None, None, "hi", b"two")


def test_a_leaf_and_an_inner_node_over_the_same_hashes_differ() -> None:
    children = [b"a" * 16, b"b" * 16]
    assert node_digest(0, children) != node_digest(1, children)


def test_ids_show_the_position_and_check_digits() -> None:
    node = Node(b"\x00" * 16, 0, 40, 55, 2_100, 1)
    assert (node.id, node.short, node.turns) == ("n40-55-000000000000", "n40-55-000", 16)
