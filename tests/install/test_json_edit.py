"""Editing JSON with comments: everything else is kept, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.agents import CLAUDE_CODE, CURSOR
from ctxmem_mcp.install import json_edit, jsonc
from ctxmem_mcp.install.config_edits import ConfigEdit, JsonServers
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.hook_edits import JsonHooks
from ctxmem_mcp.install.restore import is_exact, original_text
from ctxmem_mcp.install.server_entry import ServerCommand
from tests.install.conftest import COMMAND
from tests.install.jsonc_texts import objects, texts, values

SERVER = ServerCommand(COMMAND)
SERVERS = JsonServers(Path("servers.json"), "mcpServers", {"type": "stdio"}, {"env": {}})
GROUPS = JsonHooks(Path("settings.json"), CLAUDE_CODE)
FLAT = JsonHooks(Path("hooks.json"), CURSOR, flat=True, version=1)
EDITS: list[ConfigEdit] = [SERVERS, GROUPS, FLAT]

# Others' servers and hooks, after which ours are added.
others = st.fixed_dictionaries(
    {}, optional={
        "mcpServers": st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3),
        "hooks": st.dictionaries(st.sampled_from(["Stop", "stop", "Other"]), st.lists(values, max_size=2), max_size=2),
    },
)  # fmt: skip


def is_one(value: dict[str, Any]) -> bool:
    """Whether this is a config: one with other values where our entries go is refused, as it should be."""
    servers, hooks = value.get("mcpServers", {}), value.get("hooks", {})
    lists = isinstance(hooks, dict) and all(isinstance(one, list) for one in hooks.values())
    return lists and isinstance(servers, dict) and "ctxmem" not in servers


files = texts(st.builds(lambda mine, theirs: {**mine, **theirs}, objects, others).filter(is_one))


@given(texts(values))
def test_a_text_reads_as_json_without_its_comments(file: tuple[str, Any]) -> None:
    text, value = file
    assert jsonc.read(text) == value


@given(files, st.sampled_from(EDITS))
def test_install_then_uninstall_gives_the_same_bytes_for_any_object(file: tuple[str, Any], edit: ConfigEdit) -> None:
    text, _ = file
    installed = edit.put(text, SERVER)
    assert edit.put(installed, SERVER) == installed
    assert len(edit.find(installed)) == len(edit.find(edit.put(None, SERVER)))
    # If two backups become the same text with our entries, the first one (the newest) is taken.
    age_events = [backup for backup in ("{}", "no json") if not is_exact(edit, installed, backup)]
    assert original_text(edit, installed, [*age_events, text]) == text
    assert original_text(edit, installed, [text, "{}"]) == text


@given(files, st.sampled_from(EDITS))
def test_without_a_backup_all_but_empty_containers_is_restored(file: tuple[str, Any], edit: ConfigEdit) -> None:
    text, value = file
    left = original_text(edit, edit.put(text, SERVER), [])
    assert _without_empty(jsonc.read(left) if left is not None else {}) == _without_empty(value)


@given(texts(st.builds(lambda mine, theirs: {**mine, "mcpServers": theirs}, objects, others.filter(bool))))
def test_an_entry_beside_others_is_removed_to_the_byte_without_a_backup(file: tuple[str, Any]) -> None:
    text, _ = file
    assert SERVERS.remove(SERVERS.put(text, SERVER), prune=True) == text


@given(texts(st.dictionaries(st.text("abc", min_size=1, max_size=2), values, min_size=1, max_size=4)), st.data())
def test_removing_anything_leaves_the_rest(file: tuple[str, Any], data: st.DataObject) -> None:
    text, value = file
    key = data.draw(st.sampled_from(sorted(value)))
    del value[key]
    assert jsonc.read(json_edit.drop(text, (key,))) == value


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    """Without the containers that we would have created."""
    hooks = value.get("hooks")
    if isinstance(hooks, dict):
        value = {**value, "hooks": {name: entries for name, entries in hooks.items() if entries}}
    server = {"mcpServers", "hooks"}
    return {key: one for key, one in value.items() if (key not in server or one) and key != "version"}


# ---------------------------------------------------------------- by example


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a":1}', '{"a":1,"m":{"x":[]}}'),
        ('{"a": 1, "b": [2]}', '{"a": 1, "b": [2], "m": {"x": []}}'),
        ("{}", '{\n  "m": {\n    "x": []\n  }\n}'),
        ("", '{\n  "m": {\n    "x": []\n  }\n}\n'),
        ('{\n\t"a": 1 // one\n\t// two\n}', '{\n\t"a": 1, // one\n\t"m": {\n\t\t"x": []\n\t}\n\t// two\n}'),
        ('{\r\n   "a": 1,\r\n}', '{\r\n   "a": 1,\r\n   "m": {\r\n      "x": []\r\n   },\r\n}'),
        ('{"m": {}, "a": 1}', '{"m": {"x": []}, "a": 1}'),
        ('{\n  "m": { /* none */ }\n}', '{\n  "m": { /* none */\n    "x": []\n  }\n}'),
    ],
)
def test_new_text_follows_the_files_style(before: str, after: str) -> None:
    assert json_edit.put(before, ("m", "x"), []) == after


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1', "line 1, column 8"),
        ('{\n  "a": 1\n  "b": 2\n}', "expected a comma or } at line 3, column 3"),
        ("{'a': 1}", "expected a quoted name at line 1, column 2"),
        ('{"a": nul}', "expected a value"),
        ('{"a": 1} x', "text after the end"),
        ('{"a": "b\n"}', "expected a value"),
        ('{"a": 01}', "expected a value"),
        ('{"a": 1 /* }', "expected a comma"),
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "nested deeper"),
    ],
)
def test_invalid_json_is_refused_with_its_position(text: str, why: str) -> None:
    with pytest.raises(jsonc.NotJson, match=why):
        jsonc.parse(text)
    with pytest.raises(CannotEdit, match="is not valid JSON"):
        SERVERS.put(text, SERVER)


@pytest.mark.parametrize("text", ["[]", "1", '{"mcpServers": []}', '{"mcpServers": null}'])
def test_a_file_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(CannotEdit, match="not an object"):
        SERVERS.put(text, SERVER)


def test_a_different_server_under_our_name_is_not_overwritten() -> None:
    with pytest.raises(CannotEdit, match="does not start this program"):
        SERVERS.put('{"mcpServers": {"ctxmem": {"url": "http://127.0.0.1:8377/mcp"}}}', SERVER)


def test_a_config_of_half_a_megabyte_is_edited_only_where_necessary() -> None:
    history = [{"display": f"prompt {i}", "pastedContents": {}, "cost": i / 7} for i in range(4_000)]
    text = json.dumps({"projects": {"/home/me": {"history": history}}}, indent=2)
    installed = SERVERS.put(text, SERVER)
    assert installed.startswith(text[:-2])
    assert original_text(SERVERS, installed, []) == text
