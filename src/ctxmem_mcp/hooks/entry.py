"""`ctxmem-mcp hook AGENT`: what an agent calls at each event, with the event on stdin.

It puts the event into the spool and ends, with code 0 whatever happened: an agent must not wait for its memory, nor
fail by it. So this file imports next to nothing; only a session that begins is answered, by `returning`, which takes
longer and has a time limit of its own.
"""

from __future__ import annotations

import _thread
import os
import sys

from ctxmem_mcp.agents import SESSION_STARTS, info_of
from ctxmem_mcp.capture import spool

READ_SECONDS = 2.0
READ_BYTES_MAX = 64 * 1024 * 1024
# Of an event larger than that, its beginning: it says of which session and which transcript it is.
CUT_BYTES = 64 * 1024
_CHUNK = 1 << 20


def run(given: list[str]) -> int:
    """Ends the process with code 0."""
    try:
        _handle(given)
    except BaseException as error:
        _report(error)
    os._exit(0)


def _handle(given: list[str]) -> None:
    agent, data_dir, told = _parse_arguments(given)
    raw, whole = (told.encode(), True) if told else _read_stdin()
    if not agent or not raw.strip():
        return
    folder = data_dir or find_data_dir()
    try:
        spool.put(folder, agent, _redact(raw) if _redaction_is_on() else raw, whole)
    except OSError as error:
        _report(error)
    for event, reply in info_of(agent).replies.items():
        if event in raw:
            os.write(1, reply)
    if any(f'"{event}"'.encode() in raw for event in SESSION_STARTS):
        from ctxmem_mcp.hooks import session_start

        session_start.respond(agent, raw, folder)


def _parse_arguments(given: list[str]) -> tuple[str, str, str]:
    """The agent, --data-dir, and an event given as a word (Codex's `notify` does so)."""
    words = [word for word in given if word != "hook"]
    data_dir = ""
    if "--data-dir" in words[:-1]:
        at = words.index("--data-dir")
        data_dir = words[at + 1] and os.path.abspath(words[at + 1])
        del words[at : at + 2]
    told = next((word for word in words if word.lstrip().startswith("{")), "")
    agent = next((word for word in words if word[:1].isalpha()), "")
    return "".join(c for c in agent if c.isalnum() or c in "-_."), data_dir, told


def _read_stdin() -> tuple[bytes, bool]:
    """What stands on stdin and whether that is all: one that does not end is left after a time."""
    parts: list[bytes] = []
    ended = _thread.allocate_lock()
    ended.acquire()

    def read() -> None:
        try:
            while sum(map(len, parts)) <= READ_BYTES_MAX and (part := os.read(0, _CHUNK)):
                parts.append(part)
        except OSError:
            pass
        ended.release()

    _thread.start_new_thread(read, ())
    in_time = ended.acquire(timeout=READ_SECONDS)
    raw = b"".join(parts[:])
    if len(raw) > READ_BYTES_MAX:
        return raw[:CUT_BYTES], False
    return raw, in_time


def _redaction_is_on() -> bool:
    named = os.environ.get("CTXMEM_REDACT", "").strip()
    if not named and not _config_mentions(b"redact"):
        return False
    from ctxmem_mcp.settings import Settings

    return Settings.load().redact == "secrets"


def _redact(raw: bytes) -> bytes:
    """The event without secrets; raises where they can't be told, so that it is not spooled."""
    from ctxmem_mcp.capture.redaction import redact_event

    return redact_event(raw)


def find_data_dir() -> str:
    """Where conversations are kept, as settings say it; without loading them where nothing names another folder."""
    named = os.environ.get("CTXMEM_DATA_DIR", "").strip()
    if named:
        return os.path.abspath(os.path.expanduser(named))
    if not _config_mentions(b"data_dir") and sys.platform in ("linux", "darwin"):
        return os.path.join(_platform_folder("XDG_DATA_HOME", ".local/share"), "ctxmem")
    from ctxmem_mcp.settings import Settings

    return str(Settings.load().data_dir)


def _config_mentions(knob: bytes) -> bool:
    """Whether the config file speaks of that knob."""
    config = os.environ.get("CTXMEM_CONFIG", "").strip() or os.path.join(
        _platform_folder("XDG_CONFIG_HOME", ".config"), "ctxmem", "config.toml"
    )
    try:
        with open(os.path.expanduser(config), "rb") as file:
            return knob in file.read(_CHUNK)
    except OSError:
        return False


def _platform_folder(named: str, below_home: str) -> str:
    if sys.platform == "darwin":
        below_home = "Library/Application Support"
    else:
        given = os.environ.get(named, "").strip()
        if given:
            return given
    return os.path.join(os.path.expanduser("~"), below_home)


def _report(error: BaseException) -> None:
    try:
        os.write(2, f"ctxmem-mcp hook: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    except OSError:
        return
