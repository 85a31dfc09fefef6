"""Usage adds up by conversation and day; a forgotten conversation's numbers stay without its id."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ctxmem_mcp import usage_ledger
from ctxmem_mcp.usage_ledger import FILE, FORGOTTEN, LedgerEntry


def test_concurrent_additions_to_a_day_add_up(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: usage_ledger.add(tmp_path, LedgerEntry(7, "c1", 1, 10, 2, 5, 90)), range(40)))
    usage_ledger.add(tmp_path, LedgerEntry(8, "c1", 1, 1, 1, 1, 1))
    usage_ledger.add(tmp_path, LedgerEntry(7, "c0", 1, 1, 1, 1, 1))
    assert usage_ledger.read(tmp_path) == [
        LedgerEntry(7, "c0", 1, 1, 1, 1, 1), LedgerEntry(7, "c1", 40, 400, 80, 200, 3_600),
        LedgerEntry(8, "c1", 1, 1, 1, 1, 1)
    ]  # fmt: skip
    assert usage_ledger.read(tmp_path, "c0") == [LedgerEntry(7, "c0", 1, 1, 1, 1, 1)]


def test_the_usage_of_forgotten_conversations_stays_without_an_id(tmp_path: Path) -> None:
    for conversation in ("conversation-one", "conversation-two", "conversation-three"):
        usage_ledger.add(tmp_path, LedgerEntry(7, conversation, 1, 10, 2, 5, 90))
    usage_ledger.forget(tmp_path, ["conversation-one", "conversation-two"])
    assert usage_ledger.read(tmp_path) == [
        LedgerEntry(7, FORGOTTEN, 2, 20, 4, 10, 180), LedgerEntry(7, "conversation-three", 1, 10, 2, 5, 90)
    ]  # fmt: skip
    assert b"conversation-one" not in (tmp_path / FILE).read_bytes()


def test_without_usage_no_file_is_created(tmp_path: Path) -> None:
    assert usage_ledger.read(tmp_path) == []
    usage_ledger.forget(tmp_path, ["c1"])
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_table_does_not_prevent_forgetting(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no table at all" * 100)
    usage_ledger.forget(tmp_path, ["c1"])
