"""In the background: better summaries by the model that the user configured.

look ──► conversations, last active first ──► their closed nodes, in the order in which they closed
                                                 │  (children before parents, one subtree after the other)
     what it said, checked ◄── llm ◄── question ◄┘  set aside the tokens, or stop: a cap, another process

Nobody waits for this: no append and no view. It reads and writes through the store like everybody, holds no lock while
a model thinks, and keeps no list of what is to be done: that is every closed node which has only the summary it was
born with. So it goes on after a restart where it was, and two processes on one folder share the work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import anyio

from ctxmem_mcp.errors import (
    AnswerUnusable,
    CtxmemError,
    ModelMisconfigured,
    ModelSilent,
    ModelUnavailable,
    UnknownConversation,
)
from ctxmem_mcp.llm_client import Answer, Model
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.models import EXTRACTIVE, ConversationInfo, Node, Summary, best_summary, first_summary
from ctxmem_mcp.stores.base import KEPT, CallRefusal, ModelCall, SpendLimits, State, Store, day_of
from ctxmem_mcp.summarizers.llm import ANSWER_TOKENS_MAX, Question, about_leaf, about_parent, summary_from
from ctxmem_mcp.text import tokenizer

# What came of a call. A silent one may have been paid for; a stopped one was under way when the memory closed.
REJECTED, SILENT, STOPPED = "rejected", "silent", "stopped"
# A node whose answer was rejected is not asked about again: the same question gets the same answer.
SILENT_MAX = 3
# A model whose answers are rejected this often in a row is not worth its tokens.
REJECTED_IN_A_ROW_MAX = 5
# Another tokenizer may count more than ours; a message's frame takes a few tokens.
TOKENS_MARGIN, FRAME_TOKENS = 1.25, 50
_TURNS_AT_ONCE = 256
_PAGE = 100
_DAY_SECONDS = 86_400.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. first: from the start to the first look, so that a short command asks nothing. look: between looks.
    failed: after a failure, twice as long after each further one, up to failed_max. refused: where only the user can
    mend it."""

    first: float = 5.0
    look: float = 15.0
    failed: float = 30.0
    failed_max: float = 900.0
    refused: float = 3_600.0


class _Spent(Exception):
    """The day's tokens are spent."""


class Upkeep:
    """One process's worker. `run` until it is cancelled."""

    def __init__(
        self,
        store: Store,
        model: Model,
        caps: SpendLimits,
        *,
        encoding: str = tokenizer.DEFAULT_ENCODING,
        clock: Callable[[], float] = time.time,
        pace: Pace | None = None,
    ) -> None:
        self._store, self._model, self._caps = store, model, caps
        self._encoding, self._clock, self._pace = encoding, clock, pace or Pace()
        self._author = f"model:{model.name}"
        # What each conversation was like when nothing was left to do in it, and up to which turn that was.
        self._settled: dict[str, tuple[ConversationInfo, int]] = {}
        self._failures = self._rejected = 0
        self._spent_day = -1

    async def run(self) -> None:
        await asyncio.sleep(self._pace.first)
        while True:
            pause = await self._looked()
            await asyncio.sleep(pause)

    async def _looked(self) -> float:
        """One look; gives the seconds until the next."""
        try:
            await self.look()
            return self._pace.look
        except ModelMisconfigured as error:
            _log.error("No summaries by %s: %s", self._author, error)
            return self._pace.refused
        except ModelUnavailable as error:
            return self._after(error, min(error.retry_after or 0.0, _DAY_SECONDS))
        except CtxmemError as error:
            return self._after(error)
        except Exception:
            _log.exception("Looking for something to summarise failed.")
            return self._after(None)

    def _after(self, error: Exception | None, at_least: float = 0.0) -> float:
        pause = max(at_least, min(self._pace.failed_max, self._pace.failed * 2.0**self._failures))
        self._failures = min(self._failures + 1, 20)
        if error is not None:
            _log.warning("Summaries by %s wait for %.0f s: %s", self._author, pause, error)
        return pause

    # ------------------------------------------------------------ what there is to do

    async def look(self) -> None:
        """Does what there is to do, in every conversation. Raises what the model's endpoint is to blame for."""
        if day_of(self._clock()) == self._spent_day:
            return
        settled: dict[str, tuple[ConversationInfo, int]] = {}
        try:
            async for info in self._conversations():
                name = info.conversation_id
                known = self._settled.get(name)
                if known is not None and known[0] == info:
                    settled[name] = known
                elif (seq := await self._conversation(name, info, known)) is not None:
                    settled[name] = self._settled[name] = (info, seq)
            self._settled = settled
        except _Spent:
            self._spent_day = day_of(self._clock())
            _log.warning("The %d tokens a day for %s are spent.", self._caps.tokens_per_day, self._author)

    async def _conversations(self) -> AsyncIterator[ConversationInfo]:
        cursor: str | None = None
        while True:
            page = await self._store.conversations(self._clock(), limit=_PAGE, cursor=cursor)
            for info in page.conversations:
                # Its size also changes with what is written here.
                yield replace(info, bytes=0)
            if (cursor := page.next_cursor) is None:
                return

    async def _conversation(
        self, name: str, info: ConversationInfo, known: tuple[ConversationInfo, int] | None
    ) -> int | None:
        """Summarises what is to be; gives the turn up to which nothing is left to do, None where something is."""
        try:
            state = await self._store.load(name, self._clock())
            if state is None:
                return None
            done = known[1] if known is not None and known[0].created_at == info.created_at else 0
            return await self._nodes(state, done)
        except UnknownConversation:  # forgotten meanwhile
            return None
        except (ModelUnavailable, ModelSilent, AnswerUnusable):
            raise
        except CtxmemError as error:
            _log.warning("Conversation %s is passed over: %s", name, error)
            return None

    async def _nodes(self, state: State, done: int) -> int | None:
        name, last = state.conversation_id, state.next_seq - 1
        given_up = _given_up(await self._store.model_calls(name))
        for first in range(done + 1, last + 1, _TURNS_AT_ONCE):
            closings = await self._store.closings(name, first, min(last, first + _TURNS_AT_ONCE - 1))
            kept = await self._store.summaries(name, [node.digest for _, node in closings])
            for closer, node in closings:
                if node.digest in given_up or any(s.author != EXTRACTIVE for s in kept[node.digest]):
                    continue
                refusal = await self._node(state, closer, node)
                if refusal is CallRefusal.DAY_LIMIT:
                    raise _Spent
                if refusal is CallRefusal.BUSY:
                    return None
                if refusal is CallRefusal.CONVERSATION_LIMIT:
                    _log.info("%s: %s.", name, refusal.value)
                    return last
        return last

    # ------------------------------------------------------------ one node

    async def _node(self, state: State, closer: int, node: Node) -> CallRefusal | None:
        """Asks about a node, and joins what was said if it is fit; gives what was in the way."""
        while True:
            question = await self._question(state, closer, node)
            now = self._clock()
            cost = round(question.tokens(self._encoding) * TOKENS_MARGIN) + FRAME_TOKENS
            wanted = ModelCall(node.digest, self._author, now, cost, ANSWER_TOKENS_MAX)
            call = await self._store.begin_call(state.conversation_id, wanted, self._caps, now)
            if isinstance(call, CallRefusal):
                return call
            if await self._asked(state, closer, node, question, call):
                return None

    async def _question(self, state: State, closer: int, node: Node) -> Question:
        name = state.conversation_id
        if not node.children:
            seqs = Lineage.of(state.runs, closer).seqs(node.first, node.last)
            return about_leaf(await self._store.turns(name, seqs))
        children = await self._store.nodes(name, node.children)
        kept = await self._store.summaries(name, node.children)
        return about_parent([(children[digest], best_summary(kept[digest])) for digest in node.children])

    async def _asked(self, state: State, closer: int, node: Node, question: Question, call: ModelCall) -> bool:
        """Asks, and writes down what came of it, whatever happens. False: the question was out of date."""
        ended, summary = replace(call, outcome=STOPPED), None
        try:
            if node.children and await self._question(state, closer, node) != question:
                ended = replace(call, outcome="")  # another process wrote about a child until just now
                return False
            answer = await self._model.ask(question.system, question.user, ANSWER_TOKENS_MAX)
            self._failures = 0
            ended = _paid(call, answer, self._encoding)
            summary = await self._read(state, node, question, answer)
            ended, self._rejected = replace(ended, outcome=KEPT), 0
        except ModelUnavailable:
            ended = replace(call, outcome="")
            raise
        except ModelSilent:
            ended = replace(call, outcome=SILENT)
            raise
        except AnswerUnusable as error:
            ended = replace(ended, outcome=f"{REJECTED}: {error}")
            self._reject(node, error)
        finally:
            with anyio.CancelScope(shield=True):
                await self._store.end_call(state.conversation_id, ended, summary, self._clock())
        return True

    async def _read(self, state: State, node: Node, question: Question, answer: Answer) -> Summary:
        kept = await self._store.summaries(state.conversation_id, [node.digest])
        return summary_from(
            question,
            answer.text,
            author=self._author,
            born=first_summary(kept[node.digest]),
            finish_reason=answer.finish_reason,
            refusal=answer.refusal,
        )

    def _reject(self, node: Node, error: AnswerUnusable) -> None:
        self._rejected += 1
        _log.info("The summary of %s by %s is not taken: %s", node.id, self._author, error)
        if self._rejected >= REJECTED_IN_A_ROW_MAX:
            self._rejected = 0
            raise ModelMisconfigured(
                f"{REJECTED_IN_A_ROW_MAX} answers in a row could not be taken, the last one because: {error}",
                "Set CTXMEM_LLM_MODEL to a model that follows its instructions.",
            )


def _paid(call: ModelCall, answer: Answer, encoding: str) -> ModelCall:
    """The call with what its endpoint says it cost; where it says nothing, what was set aside, or our own count."""
    paid_in = call.tokens_in if answer.tokens_in is None else answer.tokens_in
    paid_out = tokenizer.count(answer.text, encoding) if answer.tokens_out is None else answer.tokens_out
    return replace(call, tokens_in=paid_in, tokens_out=paid_out, outcome=STOPPED)


def _given_up(calls: list[ModelCall]) -> set[bytes]:
    """The nodes that are not asked about again: they keep the summary they were born with."""
    silent = Counter(call.digest for call in calls if call.outcome == SILENT)
    rejected = {call.digest for call in calls if call.outcome.startswith(REJECTED)}
    return rejected | {digest for digest, times in silent.items() if times >= SILENT_MAX}
