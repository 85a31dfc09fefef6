"""`ctxmem-mcp hook AGENT`: the command that an agent runs at each event, with the event on stdin.

It writes the event to the spool and exits with code 0, whatever happens: an agent must not wait for its memory or fail
because of it. So this module imports next to nothing. Only a session's start gets a context in reply, from
`session_start`, which takes longer and has its own time limit.
"""

from __future__ import annotations

import _thread
import os
import sys

from ctxmem_mcp.agents import OUTPUT_EVENT, WAIT_OPTION, context_events, info_of
from ctxmem_mcp.capture import spool
from ctxmem_mcp.home_folder import NO_HOME, home_folder
from ctxmem_mcp.hooks import compactions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

# A stdin that stays open is left after so long without anything new.
READ_SECONDS, _STEP_SECONDS = 2.0, 0.25
READ_BYTES_MAX = 64 * 1024 * 1024
# A larger event is cut to its start, which names the session and the transcript.
CUT_BYTES = 64 * 1024
_CHUNK = 1 << 20
# The values that the settings accept for CTXMEM_OUTPUT_TOKENS, except 0.
OUTPUT_TOKENS_MIN, OUTPUT_TOKENS_MAX = 200, 100_000


def run(given: list[str]) -> int:
    """Handles the event and exits the process with code 0. given: the command's arguments."""
    try:
        _handle(given)
    except BaseException as error:
        _report(error)
    os._exit(0)


def _handle(given: list[str]) -> None:
    agent, data_dir, argument = _parse_arguments(given)
    raw, whole = (argument.encode(), True) if argument else _read_stdin()
    if not agent or not raw.strip():
        return
    folder = data_dir or find_data_dir()
    if _is_before_call(agent, raw, folder):
        return
    _note_run(agent, raw, folder)
    try:
        _put(folder, agent, raw, whole)
    except OSError as error:
        _report(error)
    for event, reply in info_of(agent).replies.items():
        if event in raw:
            os.write(1, reply)
    if _responds_to_compaction(agent, raw, folder):
        return
    if _names_one(raw, context_events(agent)):
        from ctxmem_mcp.hooks import session_start

        session_start.respond(agent, raw, folder)
        return
    if _waits_for_output(agent, given):
        _shorten_output(agent, raw, folder)
    _recall_for_prompt(agent, raw, folder)


def _responds_to_compaction(agent: str, raw: bytes, folder: str) -> bool:
    """Records a compaction, or brings what its recap left out; returns whether the event is for one of these."""
    info = info_of(agent)
    is_one = _names_one(raw, tuple(info.compaction_events))
    if not is_one and not (_names_one(raw, info.recap_events) and compactions.any_noted(folder)):
        return False
    from ctxmem_mcp.hooks import session_start

    if session_start.note_compaction(agent, raw, folder):
        return True
    return session_start.respond_after_compaction(
        agent, raw, folder, lambda keys: _quotations(agent, raw, folder, keys)
    )


def _put(folder: str, agent: str, raw: bytes, whole: bool = True) -> None:
    spool.put(folder, agent, _redact(raw) if _redaction_is_on() else raw, whole)


def _note_run(agent: str, raw: bytes, folder: str) -> None:
    """Records the session for the gateway of the run of `ctxmem-mcp wrap`, if the agent was started by it."""
    run = os.environ.get("CTXMEM_RUN", "")
    if not run:
        return
    from ctxmem_mcp.capture import run_sessions

    try:
        run_sessions.note(folder, run, agent, raw)
    except (ValueError, AttributeError, OSError) as error:
        _report(error)


def _waits_for_output(agent: str, given: list[str]) -> bool:
    """Whether the agent takes a call's output from the hook's reply, for which it must not run in the background."""
    info = info_of(agent)
    hook = info.events.get(OUTPUT_EVENT)
    return info.replaces_outputs and (WAIT_OPTION in given or not (hook and hook.in_background))


def _shorten_output(agent: str, raw: bytes, folder: str) -> None:
    """Replaces a call's long output by a shorter one, if the setting says so."""
    if not _names_one(raw, (OUTPUT_EVENT,)):
        return
    tokens_max = _output_tokens()
    if 0 < tokens_max < len(raw):
        from ctxmem_mcp.hooks import long_outputs

        long_outputs.respond(raw, folder, tokens_max, lambda event: _put(folder, agent, event))


def _output_tokens() -> int:
    """Returns the setting without loading the settings, if the environment has it. A value that they refuse is off."""
    value = os.environ.get("CTXMEM_OUTPUT_TOKENS", "").strip()
    if value or not _config_mentions(b"output_tokens"):
        try:
            tokens = int(value or 0)
        except ValueError:
            return 0
        return tokens if OUTPUT_TOKENS_MIN <= tokens <= OUTPUT_TOKENS_MAX else 0
    from ctxmem_mcp.settings import Settings

    return Settings.load().output_tokens


def _recall_for_prompt(agent: str, raw: bytes, folder: str) -> None:
    """Quotes earlier turns that a prompt is about, if the event is a prompt and the setting is on."""
    name = _recalling_event(agent, raw)
    if name:
        from ctxmem_mcp.hooks import prompt_recall

        prompt_recall.respond(name, raw, folder)


def _quotations(agent: str, raw: bytes, folder: str, quoted: Collection[str]) -> tuple[str, Collection[str]]:
    """Returns the quotations that `_recall_for_prompt` writes, and their keys. An error in them is reported.

    quoted: the keys of turns that are not quoted again.
    """
    name = _recalling_event(agent, raw)
    if not name:
        return "", ()
    from ctxmem_mcp.hooks import prompt_recall

    try:
        return prompt_recall.quotations_for(name, raw, folder, quoted)
    except Exception as error:
        _report(error)
        return "", ()


def _recalling_event(agent: str, raw: bytes) -> str:
    """Returns the name of the agent's event of a prompt, if this event may be one and the setting is on."""
    name = info_of(agent).prompt_event or ""
    return name if name and _names_one(raw, (name,)) and _is_on("CTXMEM_PROMPT_RECALL") else ""


def _is_before_call(agent: str, raw: bytes, folder: str) -> bool:
    """Whether the event precedes a call, which has nothing to store. Warns if the call failed before."""
    name = info_of(agent).call_event
    if name is None or not _names_one(raw, (name,)):
        return False
    from ctxmem_mcp.hooks import repeats

    try:
        return repeats.respond(name, raw, folder, _is_on("CTXMEM_REPEAT_WARNINGS"))
    except (ValueError, AttributeError, OSError) as error:
        _report(error)
        return False


def _is_on(variable: str) -> bool:
    """Returns whether a setting that is on unless it is turned off is on."""
    value, setting = os.environ.get(variable, "").strip(), variable.removeprefix("CTXMEM_").lower()
    if value or not _config_mentions(setting.encode()):
        return value != "off"
    from ctxmem_mcp.settings import Settings

    return bool(getattr(Settings.load(), setting) == "on")


def _names_one(raw: bytes, events: tuple[str, ...]) -> bool:
    return any(f'"{event}"'.encode() in raw for event in events)


def _parse_arguments(given: list[str]) -> tuple[str, str, str]:
    """The agent's id, the value of --data-dir, and an event passed as an argument (as Codex's `notify` does)."""
    words = [word for word in given if word != "hook"]
    data_dir = ""
    if "--data-dir" in words[:-1]:
        at = words.index("--data-dir")
        data_dir = words[at + 1] and os.path.abspath(words[at + 1])
        del words[at : at + 2]
    argument = next((word for word in words if word.lstrip("\ufeff \t\r\n").startswith("{")), "")
    agent = next((word for word in words if word[:1].isalpha()), "")
    return "".join(c for c in agent if c.isalnum() or c in "-_."), data_dir, argument


def _read_stdin() -> tuple[bytes, bool]:
    """Reads stdin; returns its bytes and whether they are complete."""
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
    size, idle = 0, 0.0
    while not (complete := ended.acquire(timeout=_STEP_SECONDS)) and idle < READ_SECONDS:
        size, before = sum(map(len, parts)), size
        idle = idle + _STEP_SECONDS if size == before else 0.0
    raw = b"".join(parts[:])
    if len(raw) > READ_BYTES_MAX:
        return raw[:CUT_BYTES], False
    return raw, complete


def _redaction_is_on() -> bool:
    value = os.environ.get("CTXMEM_REDACT", "").strip()
    if not value and not _config_mentions(b"redact"):
        return False
    from ctxmem_mcp.settings import Settings

    return Settings.load().redact == "secrets"


def _redact(raw: bytes) -> bytes:
    """Returns the event without secrets. Raises InvalidArgument if detect-secrets is missing: then it isn't spooled."""
    from ctxmem_mcp.capture.redaction import redact_event

    return redact_event(raw)


def find_data_dir() -> str:
    """Returns the data folder, as the settings do; they are loaded only if a config file may name another folder."""
    path = os.environ.get("CTXMEM_DATA_DIR", "").strip()
    if path:
        return os.path.abspath(os.path.expanduser(path))
    if not _config_mentions(b"data_dir") and sys.platform in ("linux", "darwin"):
        folder = os.path.join(_platform_folder("XDG_DATA_HOME", ".local/share"), "ctxmem")
        if folder.startswith(NO_HOME):
            raise OSError("CTXMEM_DATA_DIR is not set, and this user has no home folder.")
        return folder
    from ctxmem_mcp.settings import Settings

    return str(Settings.load().data_dir)


def _config_mentions(setting: bytes) -> bool:
    """Whether the config file contains that setting's name."""
    config = os.environ.get("CTXMEM_CONFIG", "").strip() or os.path.join(
        _platform_folder("XDG_CONFIG_HOME", ".config"), "ctxmem", "config.toml"
    )
    try:
        with open(os.path.expanduser(config), "rb") as file:
            return setting in file.read(_CHUNK)
    except OSError:
        return False


def _platform_folder(variable: str, below_home: str) -> str:
    if sys.platform == "darwin":
        below_home = "Library/Application Support"
    else:
        path = os.environ.get(variable, "").strip()
        if path:
            return path
    return os.path.join(home_folder(), below_home)


def _report(error: BaseException) -> None:
    try:
        os.write(2, f"ctxmem-mcp hook: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    except OSError:
        return
