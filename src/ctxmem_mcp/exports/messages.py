"""A conversation's turns as the messages that chat APIs take: texts and calls, each call with its result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctxmem_mcp.models import INJECTED, RECAP, THINKING, Turn

NO_RESULT = "(no result was recorded)"


@dataclass(slots=True)
class Call:
    """A call of a tool. results: the parts of its result; empty if none was stored."""

    id: str
    name: str
    arguments: str
    results: list[str] = field(default_factory=list)

    @property
    def result(self) -> str:
        """The result as one text. APIs require one."""
        return "\n".join(self.results) if self.results else NO_RESULT

    def arguments_object(self) -> dict[str, Any]:
        """Returns the arguments as the object that some APIs require; other arguments are its `input`."""
        try:
            value = json.loads(self.arguments)
        except ValueError:
            value = None
        return value if isinstance(value, dict) else {"input": self.arguments}


@dataclass(slots=True)
class Message:
    """One message. role: user, assistant or system. Its calls come after its texts."""

    role: str
    said_at: str | None
    texts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


def messages_of(turns: Sequence[Turn]) -> tuple[list[Message], int]:
    """Returns the messages, and how many turns were left out.

    Left out are thoughts, which a provider takes back only with its own signature, and what a host put in or
    summarised: the program that goes on puts in its own, and the whole history needs no summary. A result whose call is
    not there becomes the user's text.
    """
    messages: list[Message] = []
    open_calls: dict[str, Call] = {}
    left_out = 0
    for turn in turns:
        if turn.name == THINKING or (turn.role == "system" and turn.name in (INJECTED, RECAP)):
            left_out += 1
        elif turn.role == "tool":
            call = open_calls.get(turn.call_id or "")
            if call is None:
                _add_text(messages, "user", turn, f"[Result of {turn.name or 'a tool'}]\n{turn.content}")
            else:
                call.results.append(turn.content)
        elif turn.role == "assistant" and turn.call_id is not None:
            call = Call(f"call_{turn.index}", turn.name or "tool", turn.content)
            open_calls[turn.call_id] = call
            _add_call(messages, turn, call)
        else:
            _add_text(messages, turn.role, turn, turn.content)
    return messages, left_out


def _add_text(messages: list[Message], role: str, turn: Turn, text: str) -> None:
    """Adds the text to the last message if that is of the same role and has no calls, which texts can't follow."""
    if not text:
        return
    last = messages[-1] if messages else None
    if last is None or last.role != role or last.calls:
        messages.append(Message(role, turn.said_at, [text]))
    else:
        last.texts.append(text)


def _add_call(messages: list[Message], turn: Turn, call: Call) -> None:
    last = messages[-1] if messages else None
    # A call after a result is of the model's next answer.
    if last is None or last.role != "assistant" or any(one.results for one in last.calls):
        messages.append(Message("assistant", turn.said_at, [], [call]))
    else:
        last.calls.append(call)


def system_text(messages: Iterable[Message]) -> str:
    """Returns the texts of the system messages."""
    return "\n\n".join(text for message in messages if message.role == "system" for text in message.texts)
