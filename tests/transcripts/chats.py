"""Encoders: one chat of plain steps as each program would write it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """What happened at one point of a chat. kind: user, assistant, thinking or call (with its result)."""

    kind: str
    text: str
    result: str = ""


Steps = Sequence[Step]
Row = dict[str, Any]
TIME = "2026-05-01T10:00:{:02}.000Z"
MILLIS = 1_777_600_000_000


def lines(rows: Sequence[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def anthropic_block(step: Step, i: int) -> Row:
    if step.kind == "call":
        return {"type": "tool_use", "id": f"c{i}", "name": "run", "input": step.text}
    kind = "thinking" if step.kind == "thinking" else "text"
    return {"type": kind, kind: step.text}


def anthropic_messages(steps: Steps) -> list[tuple[str, Row]]:
    """A message for each step, and one of the user for each result."""
    found: list[tuple[str, Row]] = []
    for i, step in enumerate(steps):
        found.append(("user" if step.kind == "user" else "assistant", anthropic_block(step, i)))
        if step.kind == "call":
            found.append(
                ("user", {"type": "tool_result", "tool_use_id": f"c{i}", "name": "run", "content": step.result})
            )
    return found


def claude_ai(steps: Steps) -> str:
    rows = [
        {"uuid": f"m{i}", "text": "", "sender": "human" if role == "user" else "assistant", "attachments": [],
         "created_at": TIME.format(i % 60),
         "content": [{key: value for key, value in block.items() if key not in ("id", "tool_use_id")}]}
        for i, (role, block) in enumerate(anthropic_messages(steps))
    ]  # fmt: skip
    return json.dumps([{"uuid": "s", "name": "A chat", "chat_messages": rows}])


def gemini_part(step: Step) -> Row:
    if step.kind == "call":
        return {"functionCall": {"name": "run", "args": step.text}}
    return {"text": step.text, **({"thought": True} if step.kind == "thinking" else {})}


def gemini_result(step: Step, **id: str) -> Row:
    return {"functionResponse": {**id, "name": "run", "response": {"output": step.result}}}


def gemini_contents(steps: Steps) -> str:
    rows: list[Row] = []
    for step in steps:
        rows.append({"role": "user" if step.kind == "user" else "model", "parts": [gemini_part(step)]})
        if step.kind == "call":
            rows.append({"role": "user", "parts": [gemini_result(step)]})
    return json.dumps(rows)


def gemini_messages(steps: Steps) -> list[Row]:
    rows: list[Row] = []
    for i, step in enumerate(steps):
        row: Row = {
            "id": f"m{i}",
            "timestamp": TIME.format(i % 60),
            "type": "user" if step.kind == "user" else "gemini",
        }
        if step.kind == "thinking":
            row |= {"content": "", "thoughts": [{"description": step.text}]}
        elif step.kind == "call":
            result = [gemini_result(step, id=f"c{i}")]
            row |= {"content": "", "toolCalls": [{"id": f"c{i}", "name": "run", "args": step.text, "result": result}]}
        else:
            row["content"] = step.text if i % 2 else [{"text": step.text}]
        rows.append(row)
    return rows


GEMINI_HEADER = {"sessionId": "s", "projectHash": "h", "startTime": TIME.format(0)}


def gemini_json(steps: Steps) -> str:
    return json.dumps({**GEMINI_HEADER, "messages": gemini_messages(steps)})


def gemini_jsonl(steps: Steps) -> str:
    return lines([GEMINI_HEADER, *gemini_messages(steps)])


def qwen(steps: Steps) -> str:
    rows: list[Row] = []

    def add(kind: str, role: str, part: Row) -> None:
        i = len(rows)
        place = {"uuid": f"u{i}", "parentUuid": f"u{i - 1}" if i else None, "sessionId": "s", "cwd": "/w"}
        rows.append(
            {**place, "timestamp": TIME.format(i % 60), "type": kind, "message": {"role": role, "parts": [part]}}
        )

    for step in steps:
        add(
            "user" if step.kind == "user" else "assistant",
            "user" if step.kind == "user" else "model",
            gemini_part(step),
        )
        if step.kind == "call":
            add("tool_result", "user", gemini_result(step))
    return lines(rows)


def copilot_cli(steps: Steps) -> str:
    rows: list[Row] = [
        {"type": "session.start", "data": {"sessionId": "s", "context": {"cwd": "/w"}}, "id": "e", "parentId": None}
    ]
    for i, step in enumerate(steps):
        data: Row = {"content": step.text}
        if step.kind == "thinking":
            data = {"content": "", "reasoningText": step.text}
        elif step.kind == "call":
            data = {"content": "", "toolRequests": [{"toolCallId": f"c{i}", "name": "run", "arguments": step.text}]}
        rows.append({"type": "user.message" if step.kind == "user" else "assistant.message", "data": data})
        if step.kind == "call":
            done = {"toolCallId": f"c{i}", "success": True, "result": {"content": step.result}}
            rows.append({"type": "tool.execution_complete", "data": done})
    for i, row in enumerate(rows[1:]):
        row |= {"id": f"e{i}", "parentId": f"e{i - 1}" if i else "e", "timestamp": TIME.format(i % 60)}
    return lines(rows)


def copilot_session(steps: Steps) -> Row:
    """A request for each word of the user's; what the agent did before the first one follows an empty request."""
    requests: list[Row] = []
    for i, step in enumerate(steps):
        if step.kind == "user" or not requests:
            metadata: Row = {"toolCallRounds": [], "toolCallResults": {}}
            requests.append({"requestId": f"r{i}", "timestamp": MILLIS + i, "message": {"text": ""}, "response": [],
                             "result": {"metadata": metadata}})  # fmt: skip
        request = requests[-1]
        if step.kind == "user":
            request["message"]["text"] = step.text
        elif step.kind == "call":
            request["response"].append({"kind": "toolInvocationSerialized", "toolCallId": f"c{i}", "toolId": "run"})
            metadata = request["result"]["metadata"]
            metadata["toolCallRounds"].append({"toolCalls": [{"id": f"c{i}", "name": "run", "arguments": step.text}]})
            metadata["toolCallResults"][f"c{i}"] = {
                "content": [{"value": {"node": {"children": [{"text": step.result}]}}}]
            }
        elif step.kind == "thinking":
            request["response"].append({"kind": "thinking", "value": step.text})
        else:
            request["response"] += [{"value": step.text}, {"kind": "undoStop"}, {"kind": "thinking", "value": ""}]
    return {"version": 3, "sessionId": "s", "customTitle": "A chat", "requests": requests}


def copilot_json(steps: Steps) -> str:
    return json.dumps(copilot_session(steps))


def copilot_log(steps: Steps) -> str:
    session = copilot_session(steps)
    rows: list[Row] = [{"kind": 0, "v": {**session, "requests": []}}]
    for i, request in enumerate(session["requests"]):
        rows.append({"kind": 2, "k": ["requests"], "v": [{**request, "response": []}]})
        rows += [{"kind": 2, "k": ["requests", i, "response"], "v": [part]} for part in request["response"]]
    return lines(rows)


def opencode(steps: Steps) -> str:
    messages = []
    for i, step in enumerate(steps):
        part: Row = {"type": "reasoning" if step.kind == "thinking" else "text", "text": step.text}
        if step.kind == "call":
            state = {"status": "completed", "input": step.text, "output": step.result}
            part = {"type": "tool", "tool": "run", "callID": f"c{i}", "state": state}
        info = {"id": f"m{i}", "role": "user" if step.kind == "user" else "assistant", "time": {"created": MILLIS + i}}
        messages.append({"info": info, "parts": [{"type": "step-start"}, part]})
    return json.dumps({"info": {"id": "ses_1", "title": "A chat", "directory": "/w"}, "messages": messages})


def openwebui(steps: Steps) -> str:
    held: Row = {}
    for i, row in enumerate(openai_messages(steps)):
        own = {"id": f"m{i}", "parentId": f"m{i - 1}" if i else None, "timestamp": MILLIS / 1000 + i}
        held[f"m{i}"] = {**row, **own}
    chat = {"title": "A chat", "history": {"currentId": f"m{len(held) - 1}", "messages": held}}
    return json.dumps([{"id": "s", "title": "A chat", "chat": chat}])


def openai_messages(steps: Steps) -> list[Row]:
    return [{"role": "user" if step.kind == "user" else "assistant", "content": step.text} for step in steps]


def librechat(steps: Steps) -> str:
    rows: list[Row] = []
    for i, step in enumerate(steps):
        part: Row = (
            {"type": "think", "think": step.text} if step.kind == "thinking" else {"type": "text", "text": step.text}
        )
        if step.kind == "call":
            call = {"id": f"c{i}", "name": "run", "args": step.text, "output": step.result}
            part = {"type": "tool_call", "tool_call": call}
        parent = f"m{i - 1}" if i else "00000000-0000-0000-0000-000000000000"
        rows.append({"messageId": f"m{i}", "parentMessageId": parent, "isCreatedByUser": step.kind == "user",
            "text": "",
                     "sender": "x", "content": [part], "createdAt": TIME.format(i % 60)})  # fmt: skip
    return json.dumps({"conversationId": "s", "title": "A chat", "messages": rows})


def chatbot_ui(steps: Steps) -> str:
    return json.dumps(
        {"version": 4, "folders": [], "history": [{"id": "s", "name": "A chat", "messages": openai_messages(steps)}]}
    )


def sillytavern(steps: Steps) -> str:
    rows = [
        {"name": "Mara" if s.kind == "user" else "Ithil", "is_user": s.kind == "user", "mes": s.text} for s in steps
    ]
    return lines([{"user_name": "Mara", "character_name": "Ithil", "chat_metadata": {}}, *rows])


def oobabooga(steps: Steps) -> str:
    pairs = [[step.text, ""] if step.kind == "user" else ["", step.text] for step in steps]
    return json.dumps({"internal": pairs, "visible": pairs})


def continue_dev(steps: Steps) -> str:
    history: list[Row] = []
    for i, step in enumerate(steps):
        message: Row = {"role": "thinking" if step.kind == "thinking" else step.kind, "content": step.text}
        if step.kind == "call":
            function = {"name": "run", "arguments": step.text}
            message = {"role": "assistant", "content": "", "toolCalls": [{"id": f"c{i}", "function": function}]}
        history.append({"message": message, "contextItems": []})
        if step.kind == "call":
            answer = {"role": "tool", "content": step.result, "toolCallId": f"c{i}"}
            if i % 2:
                history.append({"message": answer, "contextItems": []})
            else:
                history[-1]["toolCallStates"] = [{"toolCallId": f"c{i}", "output": [{"content": step.result}]}]
    return json.dumps({"sessionId": "s", "title": "A chat", "workspaceDirectory": "file:///w", "history": history})


def goose(steps: Steps) -> str:
    rows: list[Row] = [{"working_dir": "/w", "description": "A chat", "message_count": len(steps)}]
    for i, step in enumerate(steps):
        block = anthropic_block(step, i)
        if step.kind == "call":
            value = {"name": "run", "arguments": step.text}
            block = {"type": "toolRequest", "id": f"c{i}", "toolCall": {"status": "success", "value": value}}
        rows.append(
            {"role": "user" if step.kind == "user" else "assistant", "created": MILLIS // 1000 + i, "content": [block]}
        )
        if step.kind == "call":
            result = {"status": "success", "value": [{"type": "text", "text": step.result}]}
            rows.append({"role": "user", "content": [{"type": "toolResponse", "id": f"c{i}", "toolResult": result}]})
    return lines(rows)


def openhands(steps: Steps) -> str:
    rows: list[Row] = []
    for step in steps:
        i = len(rows)
        args: Row = {"content" if step.kind in ("user", "assistant") else "thought": step.text}
        action = "think" if step.kind == "thinking" else "message"
        if step.kind == "call":
            action, args = "run", {"command": step.text}
        source = "user" if step.kind == "user" else "agent"
        rows.append({"id": i, "timestamp": TIME.format(i % 60), "source": source, "action": action, "args": args})
        if step.kind == "call":
            rows.append({"id": i + 1, "source": "agent", "observation": "run", "cause": i, "content": step.result})
    return lines(rows)


def amp(steps: Steps) -> str:
    rows: list[Row] = []
    for i, (role, block) in enumerate(anthropic_messages(steps)):
        if block["type"] == "tool_result":
            run = {"status": "done", "result": {"content": block["content"]}}
            block = {"type": "tool_result", "toolUseID": block["tool_use_id"], "run": run}
        rows.append({"role": role, "messageId": i, "content": [block]})
    return json.dumps({"v": 1, "id": "s", "title": "A chat", "messages": rows})


def droid(steps: Steps) -> str:
    rows: list[Row] = [{"type": "session_start", "id": "s", "title": "A chat", "cwd": "/w"}]
    for i, (role, block) in enumerate(anthropic_messages(steps)):
        place = {"id": f"m{i}", "parentId": f"m{i - 1}" if i else None, "timestamp": TIME.format(i % 60)}
        rows.append({"type": "message", **place, "message": {"role": role, "content": [block]}})
    return lines(rows)


def grok(steps: Steps) -> str:
    rows: list[Row] = [
        {"type": "system", "content": "You are a test."},
        {"type": "user", "content": "Begin.", "prompt_index": 0},
    ]
    for i, step in enumerate(steps):
        row: Row = {"type": step.kind, "content": step.text}
        if step.kind == "thinking":
            row = {"type": "reasoning", "summary": [{"type": "summary_text", "text": step.text}]}
        elif step.kind == "call":
            row = {
                "type": "assistant",
                "content": "",
                "tool_calls": [{"id": f"c{i}", "name": "run", "arguments": step.text}],
            }
        rows.append(row)
        if step.kind == "call":
            rows.append({"type": "tool_result", "tool_call_id": f"c{i}", "content": step.result})
    return lines(rows)


def kiro(steps: Steps) -> str:
    history: list[Row] = []
    for i, step in enumerate(steps):
        content: Row = {"Prompt": {"prompt": step.text if step.kind == "user" else ""}}
        answer: Row = {"Response": {"content": step.text if step.kind in ("assistant", "thinking") else ""}}
        if step.kind == "call":
            answer = {"ToolUse": {"content": "", "tool_uses": [{"id": f"c{i}", "name": "run", "args": step.text}]}}
        history.append({"user": {"content": content}, "assistant": answer})
        if step.kind == "call":
            result = {"tool_use_id": f"c{i}", "content": [{"Text": step.result}]}
            content = {"ToolUseResults": {"tool_use_results": [result]}}
            history.append({"user": {"content": content}, "assistant": {"Response": {"content": ""}}})
    return json.dumps({"conversation_id": "s", "history": history})


def inspect_ai(steps: Steps) -> str:
    rows: list[Row] = []
    for i, step in enumerate(steps):
        row: Row = {"role": "user" if step.kind == "user" else "assistant", "content": step.text}
        if step.kind == "thinking":
            row["content"] = [{"type": "reasoning", "reasoning": step.text}]
        elif step.kind == "call":
            row |= {"content": "", "tool_calls": [{"id": f"c{i}", "function": "run", "arguments": step.text}]}
        rows.append(row)
        if step.kind == "call":
            rows.append({"role": "tool", "tool_call_id": f"c{i}", "function": "run", "content": step.result})
    return json.dumps({"eval": {"run_id": "s"}, "samples": [{"id": 1, "epoch": 1, "messages": rows}]})


def ai_sdk(steps: Steps) -> str:
    rows = []
    for i, step in enumerate(steps):
        part: Row = {"type": "reasoning" if step.kind == "thinking" else "text", "text": step.text}
        if step.kind == "call":
            part = {"type": "tool-run", "toolCallId": f"c{i}", "input": step.text, "output": step.result}
        rows.append({"id": f"m{i}", "role": "user" if step.kind == "user" else "assistant", "parts": [part]})
    return json.dumps(rows)


def langchain(steps: Steps) -> str:
    rows: list[Row] = []
    for i, step in enumerate(steps):
        data: Row = {"content": step.text}
        if step.kind == "call":
            data = {"content": "", "tool_calls": [{"id": f"c{i}", "name": "run", "args": step.text}]}
        elif step.kind == "thinking":
            data = {"content": [{"type": "thinking", "thinking": step.text}]}
        rows.append({"type": "human" if step.kind == "user" else "ai", "data": data})
        if step.kind == "call":
            rows.append({"type": "tool", "data": {"content": step.result, "name": "run", "tool_call_id": f"c{i}"}})
    return json.dumps(rows)


def sharegpt(steps: Steps) -> str:
    rows: list[Row] = []
    for step in steps:
        if step.kind == "call":
            rows.append({"from": "function_call", "value": json.dumps({"name": "run", "arguments": step.text})})
            rows.append({"from": "observation", "value": step.result})
        else:
            rows.append({"from": "human" if step.kind == "user" else "gpt", "value": step.text})
    return json.dumps([{"id": "s", "conversations": rows}])


def responses(steps: Steps) -> str:
    rows: list[Row] = [{"type": "reasoning", "summary": []}]
    for i, step in enumerate(steps):
        kind = "input_text" if step.kind == "user" else "output_text"
        role = "user" if step.kind == "user" else "assistant"
        row: Row = {"type": "message", "role": role, "content": [{"type": kind, "text": step.text}]}
        if step.kind == "thinking":
            row = {"type": "reasoning", "summary": [{"type": "summary_text", "text": step.text}]}
        elif step.kind == "call":
            row = {"type": "function_call", "call_id": f"c{i}", "name": "run", "arguments": step.text}
        rows.append(row)
        if step.kind == "call":
            rows.append({"type": "function_call_output", "call_id": f"c{i}", "output": step.result})
    return json.dumps(rows)


def claude_code_web(steps: Steps) -> str:
    rows = [{"type": role, "message": {"role": role, "content": [block]}} for role, block in anthropic_messages(steps)]
    return json.dumps({"loglines": [{"type": "summary", "summary": "A chat"}, *rows]})


def zed(steps: Steps) -> str:
    rows: list[Any] = []
    for i, step in enumerate(steps):
        if step.kind == "user":
            rows.append({"User": {"id": f"m{i}", "content": [{"Text": step.text}]}})
            continue
        part: Row = {"Thinking": {"text": step.text}} if step.kind == "thinking" else {"Text": step.text}
        results: Row = {}
        if step.kind == "call":
            part = {"ToolUse": {"id": f"c{i}", "name": "run", "input": step.text}}
            results = {f"c{i}": {"tool_name": "run", "content": {"Text": step.result}}}
        rows.append({"Agent": {"content": [part], "tool_results": results}})
    return json.dumps({"title": "A chat", "messages": [*rows, "Resume"]})


def zed_older(steps: Steps) -> str:
    rows: list[Row] = []
    for i, step in enumerate(steps):
        role = "user" if step.kind == "user" else "assistant"
        row: Row = {"id": i, "role": role, "segments": [{"type": "text", "text": step.text}]}
        if step.kind == "thinking":
            row["segments"][0]["type"] = "thinking"
        elif step.kind == "call":
            row |= {"segments": [], "tool_uses": [{"id": f"c{i}", "name": "run", "input": step.text}]}
        rows.append(row)
        if step.kind == "call":
            result = {"tool_use_id": f"c{i}", "content": {"Text": step.result}}
            rows.append({"id": f"r{i}", "role": "user", "segments": [], "tool_results": [result]})
    return json.dumps({"version": "0.2.0", "summary": "A chat", "messages": rows})


def tau_bench(steps: Steps) -> str:
    return json.dumps([{"task_id": 0, "reward": 1.0, "traj": openai_messages(steps)}])


@dataclass(frozen=True)
class Encoder:
    """agent: whose transcripts its text is. kinds: the steps that the format can express as what they are."""

    agent: str
    encode: Callable[[Steps], str]
    suffix: str = ".json"
    kinds: tuple[str, ...] = ("user", "assistant", "thinking", "call")


_TALK = ("user", "assistant")
ENCODERS = (
    Encoder("claude-ai", claude_ai), Encoder("gemini", gemini_contents), Encoder("gemini", gemini_json),
    Encoder("gemini", gemini_jsonl, ".jsonl"), Encoder("qwen-code", qwen, ".jsonl"),
    Encoder("copilot-cli", copilot_cli, ".jsonl"), Encoder("copilot-chat", copilot_json),
    Encoder("copilot-chat", copilot_log, ".jsonl"), Encoder("opencode", opencode), Encoder("openwebui", openwebui,
    kinds=_TALK),
    Encoder("librechat", librechat), Encoder("chatbot-ui", chatbot_ui, kinds=_TALK),
    Encoder("sillytavern", sillytavern, ".jsonl", _TALK), Encoder("oobabooga", oobabooga, kinds=_TALK),
    Encoder("continue", continue_dev), Encoder("goose", goose, ".jsonl"), Encoder("openhands", openhands, ".jsonl"),
    Encoder("amp", amp), Encoder("droid", droid, ".jsonl"), Encoder("grok", grok, ".jsonl"),
    Encoder("kiro", kiro, kinds=("user", "assistant", "call")), Encoder("inspect-ai", inspect_ai),
    Encoder("ai-sdk", ai_sdk), Encoder("langchain", langchain), Encoder("sharegpt", sharegpt, kinds=("user",
    "assistant", "call")),
    Encoder("openai-responses", responses), Encoder("claude-code", claude_code_web), Encoder("zed", zed),
    Encoder("zed", zed_older), Encoder("message-lists", tau_bench, kinds=_TALK),
)  # fmt: skip
