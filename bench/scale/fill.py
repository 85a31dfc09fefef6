"""Fills a store with one long conversation, or with many short ones, and goes on where an earlier run has stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bench.project import copy_conversation
from bench.scale import text
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.vector_queue import VectorQueue
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.text.embeddings import load_embedder

LONG = "long"
PROJECT = Project("/home/ann/scale", None, ("/home/ann/scale",))
BATCH_TURNS = 1_000
# Of many conversations, each has this many turns.
SHORT_TURNS = 2
REPORT_SECONDS = 30
# In files, so many short conversations are stored; further ones are copies under other ids, which cost as much to list,
# to search and to keep.
STORED_MAX = 1_000
# More than the chunks whose vectors a memory lets wait.
CHUNKS_DUE_MAX = 20_000


@dataclass
class Progress:
    """Prints lines with the time to go."""

    name: str
    target: int
    first: int = 0
    started: float = field(default_factory=time.monotonic)
    reported: float = 0.0

    def report(self, done: int) -> None:
        now = time.monotonic()
        if now - self.reported < REPORT_SECONDS and done < self.target:
            return
        self.reported, elapsed = now, now - self.started
        to_go = elapsed / max(1, done - self.first) * max(0, self.target - done)
        print(f"{self.name}: {done:,} of {self.target:,}, {elapsed:.0f} s, {to_go:.0f} s to go", flush=True)


async def fill_long(memory: Memory, store: Store, conversation_id: str, tokens: int, name: str) -> None:
    """Appends turns to a conversation until it has so many tokens, and all vectors are computed."""
    known = {info.conversation_id: info for info in await memory.all_conversations()}
    done, stored = (found.tokens, found.turns) if (found := known.get(conversation_id)) else (0, 0)
    progress = Progress(f"{name}, tokens", tokens, done)
    after = (await memory.head(conversation_id)).id if stored else None
    source = text.turns(text.read_conversations(), stored)
    while done < tokens:
        batch = list(islice(source, BATCH_TURNS))
        after = (await memory.sync(batch, conversation_id=conversation_id, after=after, space=PROJECT.name)).head
        done = (await memory.info(conversation_id)).tokens
        progress.report(done)
    await compute_vectors(store, conversation_id)


async def compute_vectors(store: Store, conversation_id: str) -> None:
    """Computes the vectors that are still due, also those that a killed process has left."""
    state, embedder = await store.load(conversation_id, time.time()), load_embedder("on")
    assert state is not None
    assert embedder is not None
    queue = VectorQueue(store, embedder)
    for first in range(max(1, state.next_piece - CHUNKS_DUE_MAX), state.next_piece, BATCH_TURNS):
        await queue.read(conversation_id, state.created, range(first, min(state.next_piece, first + BATCH_TURNS)))
    await queue.close()


def short_conversations(source: Iterator[NewTurn]) -> Iterator[tuple[str, list[NewTurn]]]:
    """Yields ids with the turns of short conversations, without end."""
    number = 0
    while True:
        yield short_id(number), list(islice(source, SHORT_TURNS))
        number += 1


def short_id(number: int) -> str:
    return f"short-{number:06}"


def copy_short(folder: Path, stored: int, conversations: int, name: str) -> None:
    """Copies the files of the short conversations that are stored until there are so many. No memory may be open."""
    progress = Progress(f"{name}, copies", conversations, stored)
    for number in range(stored, conversations):
        if not (folder / FOLDER / file_name(short_id(number))).exists():
            copy_conversation(folder, short_id(number % stored), short_id(number))
        progress.report(number + 1)


async def fill_short(memory: Memory, conversations: int, name: str) -> None:
    """Stores so many short conversations, except those that are stored already."""
    known = {info.conversation_id for info in await memory.all_conversations()}
    progress = Progress(f"{name}, conversations", conversations, len(known))
    source = short_conversations(text.turns(text.read_conversations(), seed=2))
    for done, (conversation_id, turns) in enumerate(islice(source, conversations), 1):
        if conversation_id not in known:
            await memory.sync(turns, conversation_id=conversation_id, space=PROJECT.name)
            progress.report(done)
