"""The rights of a principal in a memory, and the memory that checks them.

Every adapter reaches conversations through the memory that `guard` returns, so this module alone decides what a right
permits. A method that RULES does not name can't be called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ctxmem_mcp.errors import AccessDenied
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.team.audit import Audit
    from ctxmem_mcp.team.stored_limits import StoredLimits


@dataclass(frozen=True, slots=True)
class Access:
    """The access of a request.

    Attributes:
        principal: the key of the principal.
        tenant: the key of the memory: the principal's own, or that of a shared space.
        space: the name of the shared space; None: the memory is the principal's own.
        right: what the principal may do.
        audit: records each action; None: nothing is recorded.
        limits: what the memory may store; None: no limit.
    """

    principal: str
    tenant: str
    space: str | None = None
    right: Right = Right.MANAGE
    audit: Audit | None = None
    limits: StoredLimits | None = None

    def require(self, right: Right) -> None:
        """Raises AccessDenied if the principal does not have a right."""
        if self.right < right:
            raise AccessDenied(self.space or "", right.word, self.right.word)

    async def record(
        self, action: str, conversation: str | None = None, *, target: str | None = None, denied: bool = False
    ) -> None:
        """Adds a line to the audit."""
        if self.audit is not None:
            await self.audit.record(
                self.principal, action, space=self.space, conversation=conversation, target=target, denied=denied
            )


class Rule(NamedTuple):
    """The right that a method of Memory needs, and the action that the audit records; None: it shows no words."""

    right: Right
    action: str | None = None


_READ, _LIST, _SIZES = Rule(Right.READ, "read"), Rule(Right.READ, "list"), Rule(Right.READ)
_APPEND, _REVERT = Rule(Right.CONTINUE, "append"), Rule(Right.CONTINUE, "revert")
_SUMMARY, _NOTE = Rule(Right.CONTINUE, "summary"), Rule(Right.CONTINUE)
_FORGET, _REDACT = Rule(Right.MANAGE, "forget"), Rule(Right.MANAGE, "redact")
_RETENTION, _CHANGE = Rule(Right.MANAGE, "retention"), Rule(Right.MANAGE, "change")
_METHODS = {
    _READ: """view continue_view expand hand_off turn turns history last_turns last_user_query outline search
        project_view project_hand_off file_edits left_out_of_recap find_copies find_matches find_turns""",
    _LIST: "conversations all_conversations",
    _SIZES: """info head stored_head turn_sizes turn_digests branches branches_with_parting model_usage gateway_usage
        origin is_forgotten count_tombstones count_expired verify lost_turns has_damaged_copy damaged index index_all
        index_for_search
        resolve_id quote watch""",
    _APPEND: "append sync",
    _REVERT: "revert advance_head",
    _SUMMARY: "write_summary add_summary",
    # `forget_also` only keeps the caller's own turns from being stored.
    _NOTE: "set_title set_agent set_origin set_project forget_also",
    _FORGET: "forget forget_from forget_output",
    _REDACT: "redact",
    _RETENTION: "set_retention extend_retention",
    _CHANGE: "set_space allow_again repair",
}
RULES = {name: rule for rule, names in _METHODS.items() for name in names.split()}


def guard(memory: Memory, access: Access) -> Memory:
    """Returns a memory that does only what the access permits, and records it."""
    if access.space is None and access.audit is None and access.limits is None:
        return memory
    return cast("Memory", GuardedMemory(memory, access))


class GuardedMemory:
    """A Memory whose methods check a right first."""

    def __init__(self, memory: Memory, access: Access) -> None:
        self._memory, self._access = memory, access

    def __getattr__(self, name: str) -> Any:
        rule = RULES.get(name)
        if rule is None:
            raise AttributeError(f"A guarded memory has no {name!r}.")
        method = getattr(self._memory, name)
        if not inspect.iscoroutinefunction(method):
            self._access.require(rule.right)
            return method
        return partial(self._call, name, rule, method)

    async def _call(self, name: str, rule: Rule, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        access, conversation = self._access, _conversation_of(method, args, kwargs)
        if access.right < rule.right:
            await access.record(rule.action or name, conversation, denied=True)
            access.require(rule.right)
        if name in _APPENDING:
            return await self._append(method, *args, **kwargs)
        result = await method(*args, **kwargs)
        if rule.action is not None:
            await access.record(rule.action, conversation)
        return result

    async def _append(self, method: Callable[..., Any], turns: Any, **kwargs: Any) -> Any:
        access = self._access
        if access.limits is not None:
            await access.limits.check(access.tenant, self._memory)
        if access.right < Right.MANAGE:
            # Fewer days would delete what others have stored.
            kwargs["may_shorten_retention"] = False
        result = await method(turns, **kwargs)
        if access.limits is not None:
            sent = turns if isinstance(turns, list | tuple) else [turns]
            access.limits.add(access.tenant, sum(len(turn.content) for turn in sent), len(sent))
        await access.record("append", result.conversation_id)
        return result


_APPENDING = ("append", "sync")


def _conversation_of(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Returns the conversation that a call names. Anything but an id may be words, and is left out."""
    from ctxmem_mcp.memory.id_resolver import CONVERSATION_ID

    found = kwargs.get("conversation_id")
    if found is None and args and next(iter(inspect.signature(method).parameters), None) == "conversation_id":
        found = args[0]
    return found if isinstance(found, str) and CONVERSATION_ID.fullmatch(found) else None
