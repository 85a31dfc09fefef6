"""The command `export --as`: writes a branch so that an agent can go on with it, or a person read it."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ctxmem_mcp import agents
from ctxmem_mcp.capture.locations import sessions_folder
from ctxmem_mcp.capture.redaction import CountedRedactor
from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.runner import GlobalOptions, resolve_conversation, with_memory
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.exports.formats import CLAUDE_CODE, CODEX, SUFFIXES, Export, export_turns
from ctxmem_mcp.memory import Memory


@dataclass(frozen=True, slots=True)
class Request:
    """What to write.

    Attributes:
        path: None: the agent's own folder, or a file in the current one.
        turn_id: None: the head.
        redact_secrets: keys and tokens are replaced.
    """

    form: str
    path: Path | None
    turn_id: str | None
    replace: bool
    redact_secrets: bool = False


def export(options: GlobalOptions, conversation: str, request: Request, as_json: bool) -> None:
    """Writes a branch in a form, and prints where, and how an agent resumes it.

    Raises:
        InvalidArgument: there is no such form, or the file exists.
    """
    if request.form not in SUFFIXES:
        raise InvalidArgument("--as", f"is one of {', '.join(SUFFIXES)}; got {request.form!r}")
    session_id, now, cwd = uuid.uuid4(), datetime.now(UTC), str(Path.cwd())

    secrets = CountedRedactor() if request.redact_secrets else None

    async def work(memory: Memory) -> tuple[str, int, Export]:
        found = await resolve_conversation(memory, conversation)
        turns = await memory.history(found, turn_id=request.turn_id)
        if secrets is not None:
            turns = [replace(turn, content=secrets(turn.content)) for turn in turns]
        title = (await memory.info(found)).title or found
        at = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return found, len(turns), export_turns(turns, request.form, title, session_id, cwd, at)

    found, turns, done = with_memory(options, work)
    path = request.path or _own_place(request.form, session_id, now, cwd)
    path = path or Path(f"{found.replace(':', '-')}{SUFFIXES[request.form]}")
    _write(path, done.text, request.replace)
    resume = {CLAUDE_CODE: f"claude --resume {session_id}", CODEX: f"codex resume {session_id}"}.get(request.form)
    if as_json:
        output.print_json(
            {"file": str(path), "turns": turns - done.left_out, "left_out": done.left_out, "resume": resume}
        )
        return
    output.write(f"{path}: {output.counted(turns - done.left_out, 'turn')} of {found}.")
    if done.left_out:
        output.write(f"Left out: {done.left_out:,} thoughts and texts of the program that they were in.")
    if resume and request.path is None:
        output.write(f"To go on with it in this folder: {resume}")


def _own_place(form: str, session_id: uuid.UUID, now: datetime, cwd: str) -> Path | None:
    """Returns the file in which an agent looks for a session; None for a form that is no agent's."""
    if form == CLAUDE_CODE:
        return sessions_folder(agents.CLAUDE_CODE) / re.sub(r"[^A-Za-z0-9]", "-", cwd) / f"{session_id}.jsonl"
    if form == CODEX:
        name = f"rollout-{now:%Y-%m-%dT%H-%M-%S}-{session_id}.jsonl"
        return sessions_folder(agents.CODEX) / f"{now:%Y/%m/%d}" / name
    return None


def _write(path: Path, text: str, replace: bool) -> None:
    if path.exists() and not replace:
        raise InvalidArgument(f"FILE {path}", "exists", "Name another file, or add --force.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
        file.write(text)
