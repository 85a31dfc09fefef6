"""A background worker that writes better summaries with the model that the user configured.

run_once ──► conversations, last active first ──► their closed nodes, in the order in which they closed
                                                     │  (children before parents, one subtree after the other)
                        summary ◄── checks ◄── LLM ◄─┘  reserve the tokens, or stop: a limit, another process

No append and no view waits for it. It reads and writes through the store like every other user, holds no lock during a
model call, and keeps no queue: its work is every closed node that has only its extractive summary. So it resumes after
a restart, and two processes on one folder share the work.
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
    CtxmemError,
    ModelCallFailed,
    ModelMisconfigured,
    ModelUnavailable,
    SummaryRejected,
    UnknownConversation,
)
from ctxmem_mcp.llm_client import Completion, LLMClient
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.models import EXTRACTIVE, Node, Summary, best_summary, day_of, first_summary
from ctxmem_mcp.results import ConversationInfo
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import KEPT, CallRefusal, ModelCall, SpendLimits, State
from ctxmem_mcp.summarizers.llm import (
    RESPONSE_TOKENS_MAX,
    Prompt,
    build_leaf_prompt,
    build_parent_prompt,
    parse_summary,
)
from ctxmem_mcp.text import tokenizer

# Outcomes of a call, as stored. A failed one may have been billed; a stopped one was cut off when the memory closed.
REJECTED, FAILED, STOPPED = "rejected", "silent", "stopped"
# A node is given up after this many failed calls, and after one rejected response, since the same prompt would get the
# same response again.
FAILED_MAX = 3
# A model whose responses are rejected this often in a row is not worth its tokens.
REJECTED_IN_A_ROW_MAX = 5
# Another tokenizer may count more than ours; the framing of a message takes a few tokens.
TOKENS_MARGIN, FRAME_TOKENS = 1.25, 50
_TURNS_PER_READ = 256
_PAGE_SIZE = 100
_DAY_SECONDS = 86_400.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Intervals:
    """The worker's pauses, in seconds.

    Attributes:
        first: Before the first run, so that a short command calls no model.
        poll: Between runs.
        retry: After a failure; doubled after each further one, up to `retry_max`.
        misconfigured: After an error that only the user can correct.
    """

    first: float = 5.0
    poll: float = 15.0
    retry: float = 30.0
    retry_max: float = 900.0
    misconfigured: float = 3_600.0


class _DailyLimitReached(Exception):
    """The day's token limit is reached."""


class SummaryWorker:
    """One process's worker.

    Args:
        store: The store to read from and write to.
        client: The model. The author of its summaries is "model:" and the model's name.
        limits: Token limits of a day and of a conversation.
        encoding: The tokenizer encoding that costs are estimated in.
        clock: Returns the time in seconds since 1970.
        intervals: The pauses between runs.
    """

    def __init__(
        self,
        store: Store,
        client: LLMClient,
        limits: SpendLimits,
        *,
        encoding: str = tokenizer.DEFAULT_ENCODING,
        clock: Callable[[], float] = time.time,
        intervals: Intervals | None = None,
    ) -> None:
        self._store, self._client, self._limits = store, client, limits
        self._encoding, self._clock, self._intervals = encoding, clock, intervals or Intervals()
        self._author = f"model:{client.model}"
        # Per conversation: its state when no work was left in it, and the turn up to which none was left.
        self._completed: dict[str, tuple[ConversationInfo, int]] = {}
        self._failures = self._rejected = 0
        self._exhausted_day = -1

    async def run(self) -> None:
        """Runs until cancelled. Errors are logged and retried."""
        await asyncio.sleep(self._intervals.first)
        while True:
            pause = await self._run_and_pick_pause()
            await asyncio.sleep(pause)

    async def _run_and_pick_pause(self) -> float:
        """Runs once; returns the seconds until the next run."""
        try:
            await self.run_once()
            return self._intervals.poll
        except ModelMisconfigured as error:
            _log.error("Summaries by %s are suspended: %s", self._author, error)
            return self._intervals.misconfigured
        except ModelUnavailable as error:
            return self._back_off(error, min(error.retry_after or 0.0, _DAY_SECONDS))
        except CtxmemError as error:
            return self._back_off(error)
        except Exception:
            _log.exception("The summary worker failed; it will run again.")
            return self._back_off(None)

    def _back_off(self, error: Exception | None, minimum: float = 0.0) -> float:
        pause = max(minimum, min(self._intervals.retry_max, self._intervals.retry * 2.0**self._failures))
        self._failures = min(self._failures + 1, 20)
        if error is not None:
            _log.warning("Summaries by %s are suspended for %.0f s: %s", self._author, pause, error)
        return pause

    # ------------------------------------------------------------ conversations and their nodes

    async def run_once(self) -> None:
        """Summarises every closed node that lacks a written summary, in all conversations, until a limit is reached.

        Raises:
            ModelUnavailable: The endpoint could not be reached or is overloaded.
            ModelMisconfigured: The endpoint rejects the request, or too many responses in a row were rejected.
            ModelCallFailed: A request was sent but no chat completion came back.
        """
        if day_of(self._clock()) == self._exhausted_day:
            return
        completed: dict[str, tuple[ConversationInfo, int]] = {}
        try:
            async for info in self._iter_conversations():
                name = info.conversation_id
                known = self._completed.get(name)
                if known is not None and known[0] == info:
                    completed[name] = known
                elif (last_done := await self._process_conversation(name, info, known)) is not None:
                    completed[name] = self._completed[name] = (info, last_done)
            self._completed = completed
        except _DailyLimitReached:
            self._exhausted_day = day_of(self._clock())
            _log.warning("The limit of %d tokens a day for %s is reached.", self._limits.tokens_per_day, self._author)

    async def _iter_conversations(self) -> AsyncIterator[ConversationInfo]:
        cursor: str | None = None
        while True:
            page = await self._store.conversations(self._clock(), limit=_PAGE_SIZE, cursor=cursor)
            for info in page.conversations:
                # The size is ignored: this worker's own writes change it too.
                yield replace(info, bytes=0)
            if (cursor := page.next_cursor) is None:
                return

    async def _process_conversation(
        self, name: str, info: ConversationInfo, known: tuple[ConversationInfo, int] | None
    ) -> int | None:
        """Summarises a conversation's nodes; returns the turn up to which no work is left, None if some is."""
        try:
            state = await self._store.load(name, self._clock())
            if state is None:
                return None
            last_done = known[1] if known is not None and known[0].created_at == info.created_at else 0
            return await self._process_nodes(state, last_done)
        except UnknownConversation:  # just forgotten
            return None
        except (ModelUnavailable, ModelCallFailed, SummaryRejected):
            raise
        except CtxmemError as error:
            _log.warning("Conversation %s is skipped: %s", name, error)
            return None

    async def _process_nodes(self, state: State, last_done: int) -> int | None:
        name, last = state.conversation_id, state.next_seq - 1
        abandoned = _abandoned_nodes(await self._store.model_calls(name))
        for first in range(last_done + 1, last + 1, _TURNS_PER_READ):
            closings = await self._store.closings(name, first, min(last, first + _TURNS_PER_READ - 1))
            summaries = await self._store.summaries(name, [node.digest for _, node in closings])
            for closer, node in closings:
                if node.digest in abandoned or any(s.author != EXTRACTIVE for s in summaries[node.digest]):
                    continue
                refusal = await self._summarize_node(state, closer, node)
                if refusal is CallRefusal.DAY_LIMIT:
                    raise _DailyLimitReached
                if refusal is CallRefusal.BUSY:
                    return None
                if refusal is CallRefusal.CONVERSATION_LIMIT:
                    _log.info("%s: %s.", name, refusal.value)
                    return last
        return last

    # ------------------------------------------------------------ one node

    async def _summarize_node(self, state: State, closer: int, node: Node) -> CallRefusal | None:
        """Requests a node's summary and stores it if it passes the checks; returns why a call is refused."""
        while True:
            prompt = await self._build_prompt(state, closer, node)
            now = self._clock()
            cost = round(prompt.tokens(self._encoding) * TOKENS_MARGIN) + FRAME_TOKENS
            reservation = ModelCall(node.digest, self._author, now, cost, RESPONSE_TOKENS_MAX)
            call = await self._store.begin_call(state.conversation_id, reservation, self._limits, now)
            if isinstance(call, CallRefusal):
                return call
            if await self._call_model(state, closer, node, prompt, call):
                return None

    async def _build_prompt(self, state: State, closer: int, node: Node) -> Prompt:
        name = state.conversation_id
        if not node.children:
            seqs = Lineage.of(state.runs, closer).seqs(node.first, node.last)
            return build_leaf_prompt(await self._store.turns(name, seqs))
        children = await self._store.nodes(name, node.children)
        summaries = await self._store.summaries(name, node.children)
        return build_parent_prompt([(children[digest], best_summary(summaries[digest])) for digest in node.children])

    async def _call_model(self, state: State, closer: int, node: Node, prompt: Prompt, call: ModelCall) -> bool:
        """Calls the model and records the call's outcome in any case; returns False if the prompt was out of date."""
        ended, summary = replace(call, outcome=STOPPED), None
        try:
            if node.children and await self._build_prompt(state, closer, node) != prompt:
                ended = replace(call, outcome="")  # another process has just summarised a child
                return False
            completion = await self._client.complete(prompt.system, prompt.user, RESPONSE_TOKENS_MAX)
            self._failures = 0
            ended = _charged(call, completion, self._encoding)
            summary = await self._parse_summary(state, node, prompt, completion)
            ended, self._rejected = replace(ended, outcome=KEPT), 0
        except ModelUnavailable:
            ended = replace(call, outcome="")
            raise
        except ModelCallFailed:
            ended = replace(call, outcome=FAILED)
            raise
        except SummaryRejected as error:
            ended = replace(ended, outcome=f"{REJECTED}: {error}")
            self._reject(node, error)
        finally:
            with anyio.CancelScope(shield=True):
                await self._store.end_call(state.conversation_id, ended, summary, self._clock())
        return True

    async def _parse_summary(self, state: State, node: Node, prompt: Prompt, completion: Completion) -> Summary:
        summaries = await self._store.summaries(state.conversation_id, [node.digest])
        return parse_summary(
            prompt,
            completion.text,
            author=self._author,
            original=first_summary(summaries[node.digest]),
            finish_reason=completion.finish_reason,
            refusal=completion.refusal,
        )

    def _reject(self, node: Node, error: SummaryRejected) -> None:
        self._rejected += 1
        _log.info("The summary of %s by %s is rejected: %s", node.id, self._author, error)
        if self._rejected >= REJECTED_IN_A_ROW_MAX:
            self._rejected = 0
            raise ModelMisconfigured(
                f"{REJECTED_IN_A_ROW_MAX} responses in a row were rejected, the last one because: {error}",
                "Set CTXMEM_LLM_MODEL to a model that follows instructions.",
            )


def _charged(call: ModelCall, completion: Completion, encoding: str) -> ModelCall:
    """The call with the cost that its endpoint states; else the reserved tokens in and our count of the tokens out."""
    tokens_in = call.tokens_in if completion.tokens_in is None else completion.tokens_in
    tokens_out = tokenizer.count(completion.text, encoding) if completion.tokens_out is None else completion.tokens_out
    return replace(call, tokens_in=tokens_in, tokens_out=tokens_out, outcome=STOPPED)


def _abandoned_nodes(calls: list[ModelCall]) -> set[bytes]:
    """The nodes that are given up: they keep their extractive summary."""
    failures = Counter(call.digest for call in calls if call.outcome == FAILED)
    rejected = {call.digest for call in calls if call.outcome.startswith(REJECTED)}
    return rejected | {digest for digest, count in failures.items() if count >= FAILED_MAX}
