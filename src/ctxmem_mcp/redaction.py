"""Redacts turns in everything that a data folder holds, also if the process is killed in between.

What is to be redacted is recorded first, by ids; the record is removed when all is done. The next start finds it and
carries on.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ctxmem_mcp.capture.purge import purge_redacted, purge_texts
from ctxmem_mcp.capture.spool_worker import drain
from ctxmem_mcp.capture.texts import Texts, words_like_keys
from ctxmem_mcp.errors import CtxmemError, StoreUnavailable, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import Turn, iso
from ctxmem_mcp.private_files import OWN_FILES, OWN_FOLDERS, PRINCIPALS
from ctxmem_mcp.record_stores.base import RedactionOrder, RedactionOrders
from ctxmem_mcp.record_stores.file_orders import FileOrders
from ctxmem_mcp.results import FoundTurn, OutlineNode, RedactionReceipt
from ctxmem_mcp.stores.sqlite.conversation_files import SUFFIX
from ctxmem_mcp.stores.sqlite.snapshot import holds_digest

_LOCK_SECONDS = 600.0
_log = logging.getLogger(__name__)


async def redact(
    memory: Memory,
    data_dir: Path,
    turns: Sequence[FoundTurn],
    named: Collection[str] = (),
    orders: RedactionOrders | None = None,
) -> RedactionReceipt:
    """Redacts turns, and removes their contents from all files of the data folder.

    Args:
        memory: A memory over the folder.
        data_dir: The folder.
        turns: As `Memory.find_copies` or `Memory.find_matches` returns them.
        named: Parts of their contents for which somebody has searched.
        orders: Where redactions in progress are recorded. By default, in the folder.

    Raises:
        StoreUnavailable: Another process has been redacting for minutes, or others keep changing a conversation. What
            is not done is done at the next start.
        DamagedConversation: A conversation has to be repaired first.
    """
    by_conversation: dict[str, list[bytes]] = {}
    for found in turns:
        by_conversation.setdefault(found.conversation_id, []).append(found.turn.digest)
    orders = orders or FileOrders(data_dir)
    async with orders.lock(_LOCK_SECONDS) as is_alone:
        if not is_alone:
            raise StoreUnavailable("Another process is redacting.", "Try again when it is done.")
        order = await orders.add(iso(time.time())[: len("2026-01-01")], by_conversation)
        receipt = await _carry_out(memory, data_dir, order, [found.turn for found in turns], named)
        await orders.remove(order)
        return receipt


async def resume(memory: Memory, data_dir: Path, orders: RedactionOrders | None = None) -> None:
    """Carries on with redactions that a killed process has left, unless another process is at it."""
    orders = orders or FileOrders(data_dir)
    if not await orders.all():
        return
    async with orders.lock(0.0) as is_alone:
        for order in await orders.all() if is_alone else ():
            try:
                found = await memory.find_turns({digest for some in order.turns.values() for digest in some})
                await _carry_out(memory, data_dir, order, [one.turn for one in found])
                await orders.remove(order)
                _log.warning("Finished a redaction in %d conversations.", len(order.turns))
            except CtxmemError as error:
                _log.error("A redaction can't be finished: %s", error)


async def _carry_out(
    memory: Memory, data_dir: Path, order: RedactionOrder, found: Sequence[Turn], named: Collection[str] = ()
) -> RedactionReceipt:
    await memory.remove_unfinished_redactions()
    digests_of_all = {digest for some in order.turns.values() for digest in some}
    removed = await asyncio.to_thread(_remove_exports, data_dir, digests_of_all)
    redacted: dict[str, list[Turn]] = {}
    contents = {turn.digest: turn.content for turn in found}
    # The texts are known only until the conversations are rebuilt. What events hold besides is stored first.
    await drain(memory, data_dir, wait=True)
    purge_texts(data_dir, Texts(contents.values(), named))
    for conversation, digests in order.turns.items():
        try:
            redacted[conversation] = await memory.redact(conversation, digests, order.day)
        except UnknownConversation:  # forgotten since
            continue
        contents |= {turn.digest: turn.content for turn in redacted[conversation]}
    # An event that has come since is recognised when it is stored.
    await drain(memory, data_dir, wait=True)
    texts = Texts(contents.values(), named)
    purge_texts(data_dir, texts)
    shorts = {turn.short for some in (found, *redacted.values()) for turn in some}
    purge_redacted(data_dir, order.turns, shorts)
    receipt = await _check(memory, data_dir, redacted, texts)
    receipt.checked.extend(f"the export {name} in the data folder held it and was deleted" for name in removed)
    return receipt


async def _check(
    memory: Memory, data_dir: Path, redacted: Mapping[str, Sequence[Turn]], texts: Texts
) -> RedactionReceipt:
    """Searches everything that is stored for the redacted words, and all files byte by byte."""
    turns = {conversation: [turn.id for turn in some] for conversation, some in redacted.items()}
    size = sum(len(turn.content.encode()) for some in redacted.values() for turn in some)
    receipt = RedactionReceipt(turns, size)
    faults, titles = [], []
    for conversation in redacted:
        faults += await memory.verify(conversation)
        titles += await _summaries_with(memory, conversation, texts)
    receipt.warnings.extend(f"verify: {fault}" for fault in faults)
    if not faults:
        receipt.checked.append("every hash of these conversations is right, and every turn keeps its id")
    if redacted and not texts.parts:
        receipt.warnings.append("it is too short to be searched for in other turns and files")
        return receipt
    quoting = await find_quotations(memory, texts)
    receipt.warnings.extend(f"{one} still quotes it" for one in (*quoting, *titles))
    if not quoting and not titles:
        receipt.checked.append("no turn, summary or title in the data folder quotes it")
    try:
        files, holding = await asyncio.to_thread(texts.search_files, data_dir, (PRINCIPALS,))
    except OSError as error:
        receipt.warnings.append(f"the files could not be searched: {error}")
        return receipt
    # Those of conversations that quote it are named above.
    receipt.warnings.extend(f"{path} holds it" for path in holding if not quoting or SUFFIX not in path)
    if not holding:
        receipt.checked.append(f"the bytes of all {files:,} files in the data folder do not contain it")
    return receipt


async def find_copies(memory: Memory, conversation_id: str, turn_id: str) -> tuple[list[FoundTurn], list[str]]:
    """Returns the copies of a turn in all conversations, and the other places that quote it."""
    found = await memory.find_copies(conversation_id, turn_id)
    contents = [one.turn.content for one in found]
    keys = [word for content in contents for word in words_like_keys(content)]
    copies = {one.turn.id for one in found}
    quoting = await find_quotations(memory, Texts(contents, keys))
    return found, [place for place in quoting if place.split()[1] not in copies]


async def find_quotations(memory: Memory, texts: Texts) -> list[str]:
    """Returns the conversation and the id of each turn that quotes one of the texts."""
    if not texts.parts:
        return []
    pattern = re.compile("|".join(map(re.escape, texts.parts)))
    return [f"turn {one.turn.id} of {one.conversation_id}" for one in await memory.find_matches(pattern)]


async def _summaries_with(memory: Memory, conversation: str, texts: Texts) -> list[str]:
    found = []
    info = await memory.info(conversation)
    if texts.are_in(info.title.encode()):
        found.append(f"the title of {conversation}")
    for tip in await memory.branches(conversation):
        nodes = _flat(await memory.outline(conversation, turn_id=tip.id))
        quoting = (node for node in nodes if texts.are_in(str(node.summary).encode()))
        found += [f"the summary of {node.id} of {conversation}" for node in quoting]
    return list(dict.fromkeys(found))


def _flat(nodes: Iterable[OutlineNode]) -> Iterable[OutlineNode]:
    for node in nodes:
        yield node
        yield from _flat(node.children)


def _remove_exports(data_dir: Path, digests: Collection[bytes]) -> list[str]:
    """Removes the `.ctxmem` files that somebody has exported into the data folder and that hold one of these turns."""
    removed = []
    ours = {*OWN_FOLDERS, PRINCIPALS}
    for path in sorted(data_dir.rglob(f"*{SUFFIX}")):
        inside = path.relative_to(data_dir).parts
        if inside[0] in ours or inside[0].startswith(OWN_FILES) or not holds_digest(path, digests):
            continue
        path.unlink(missing_ok=True)
        removed.append(str(path.relative_to(data_dir)))
    return removed
