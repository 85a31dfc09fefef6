"""Facts about each agent: one table, read by capture, the hooks, the installer and the parsers.

It imports nothing, so that a hook process starts as fast without it as with it.
"""

from __future__ import annotations

SESSION_STARTS = ("SessionStart", "sessionStart")
SESSION_ENDS = ("SessionEnd",)
# The source of a session's start after a compaction.
COMPACTED = "compact"
# Separates a session's id from the name of an output that a hook shortened; its whole is a conversation of its own.
OF_OUTPUT = ":output-"
# The event after a call, whose reply can replace the call's output.
OUTPUT_EVENT = "PostToolUse"
# The option of a hook whose reply the agent waits for, though it runs that event's hooks in the background otherwise.
WAIT_OPTION = "--wait"
# Cline's transcript, named alike in every task's folder; and that of newer versions, named for its session.
CLINE_TASK_FILE = "api_conversation_history.json"
CLINE_SESSION_SUFFIX = ".messages.json"


class Hook:
    """How an event's hook is registered.

    matcher: the kinds of the event it is called for; None: all.
    timeout_seconds: how long the agent waits for it; the hook itself takes milliseconds.
    since: the first version of the agent that is known to have the event; None: all have it.
    in_background: the agent goes on while the hook runs; versions that can't do that wait for it.
    """

    __slots__ = ("in_background", "matcher", "since", "timeout_seconds")

    def __init__(
        self,
        matcher: str | None = None,
        timeout_seconds: int = 10,
        *,
        since: tuple[int, ...] | None = None,
        in_background: bool = False,
    ) -> None:
        self.matcher, self.timeout_seconds = matcher, timeout_seconds
        self.since, self.in_background = since, in_background


class SessionFiles:
    """Where an agent keeps transcripts.

    variable: the environment variable that names the agent's own folder; home: that folder if it is not set.
    folder: the transcripts' folder in it; files: a glob for all of them; file: one for a session's, with its id as {}.
    """

    __slots__ = ("file", "files", "folder", "home", "variable")

    def __init__(self, variable: str, home: str, folder: str, files: str, file: str = "**/{}.jsonl") -> None:
        self.variable, self.home, self.folder, self.files, self.file = variable, home, folder, files, file


class AgentInfo:
    """Facts about one agent.

    id: its name in commands, in the spool and in transcripts; title: its name as people write it.
    tested: the version that the tests drive; empty: none.
    api: the API that it calls its model by, if the gateway serves that one.
    events: those that a hook is registered for.
    arguments_since: the first version known to run a hook from a list of arguments, without a shell; None: none is.
    wordless_events: those of them, and others that it may send, which carry no words.
    event_names: Claude Code's name of an event with the same fields, by the agent's own name.
    replies: what a hook prints for an event that contains these bytes; nothing unless the agent expects it.
    context_event: the event whose reply brings a session its context, if that is not its start.
    call_event: the event before a call, if its reply can add to the context.
    prompt_event: the event of a prompt, if its reply can add to the context in Claude Code's format.
    replaces_outputs: the reply to the event after a call can replace the call's output.
    compaction_events: the events of a compaction whose own reply can't bring what the recap left out; each with the
        field and the value that it must have, if it has other causes too.
    recap_events: after such a compaction, the events that bring it.
    context_key: the key of the context in the reply; None: Claude Code's format.
    context_bytes_max: longer contexts are shown to the model as a preview only; None: no limit is known.
    has_transcript: its transcript has everything that its events have.
    sessions: where its transcripts are.
    """

    __slots__ = (
        "api", "arguments_since", "call_event", "compaction_events", "context_bytes_max", "context_event",
        "context_key", "event_names", "events", "has_transcript", "id", "prompt_event", "recap_events",
        "replaces_outputs", "replies", "sessions", "tested", "title", "wordless_events",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        title: str,
        *,
        tested: str = "",
        api: str = "",
        events: dict[str, Hook] | None = None,
        arguments_since: tuple[int, ...] | None = None,
        wordless_events: tuple[str, ...] = (),
        event_names: dict[str, str] | None = None,
        replies: dict[bytes, bytes] | None = None,
        context_event: str | None = None,
        compaction_events: dict[str, tuple[str, str] | None] | None = None,
        recap_events: tuple[str, ...] = (),
        call_event: str | None = None,
        prompt_event: str | None = None,
        replaces_outputs: bool = False,
        context_key: str | None = None,
        context_bytes_max: int | None = None,
        has_transcript: bool = False,
        sessions: tuple[SessionFiles, ...] = (),
    ) -> None:
        self.id, self.title, self.tested, self.api = id, title, tested, api
        self.events, self.wordless_events, self.replies = events or {}, wordless_events, replies or {}
        self.arguments_since = arguments_since
        self.event_names, self.compaction_events = event_names or {}, compaction_events or {}
        self.context_event, self.context_key, self.context_bytes_max = context_event, context_key, context_bytes_max
        self.call_event, self.prompt_event, self.replaces_outputs = call_event, prompt_event, replaces_outputs
        self.has_transcript, self.sessions, self.recap_events = has_transcript, sessions, recap_events


# A session start of every kind: its context enters the new one, also after a compaction.
_CLAUDE_HOOKS = {
    "SessionStart": Hook("startup|resume|clear|compact"),
    "UserPromptSubmit": Hook(),
    "PostToolUse": Hook(),
    "PreCompact": Hook(),
    "SubagentStop": Hook(),
    "Stop": Hook(),
    "SessionEnd": Hook(),
}
_CLAUDE_WORDLESS = (
    "SessionStart", "SessionEnd", "PreToolUse", "PermissionRequest", "PermissionDenied", "Notification", "PreCompact",
    "PostCompact", "SubagentStart", "SubagentStop", "StopFailure", "PostToolUseFailure", "CwdChanged", "FileChanged",
    "ConfigChange", "InstructionsLoaded", "TaskCreated", "TaskCompleted", "TeammateIdle", "WorktreeCreate",
    "WorktreeRemove", "Setup",
)  # fmt: skip
_TASKS = (f"*/{CLINE_TASK_FILE}", f"{{}}/{CLINE_TASK_FILE}")
_SESSIONS = (f"*/*{CLINE_SESSION_SUFFIX}", f"{{0}}/{{0}}{CLINE_SESSION_SUFFIX}")

_AFTER_COMPACTION = ("source", COMPACTED)

CLAUDE_CODE = AgentInfo(
    "claude-code",
    "Claude Code",
    tested="2.1.332",
    api="Anthropic",
    # In the background only what the agent need not wait for: print mode kills hooks that run when it ends.
    events={
        **_CLAUDE_HOOKS,
        "PostToolUse": Hook(in_background=True),
        "SubagentStop": Hook(in_background=True),
        "PreToolUse": Hook("Bash|Edit|MultiEdit"),
        "PostToolUseFailure": Hook(since=(2, 1, 0), in_background=True),
        "StopFailure": Hook(since=(2, 1, 97)),
    },
    wordless_events=_CLAUDE_WORDLESS,
    arguments_since=(2, 1, 332),
    call_event="PreToolUse",
    prompt_event="UserPromptSubmit",
    replaces_outputs=True,
    compaction_events={"SessionStart": _AFTER_COMPACTION},
    recap_events=("UserPromptSubmit", "PostToolUse"),  # it writes the recap after the hooks
    context_bytes_max=9_900,  # a preview over 10,000 characters
    has_transcript=True,
    sessions=(SessionFiles("CLAUDE_CONFIG_DIR", "~/.claude", "projects", "**/*.jsonl"),),
)
CLAUDE_DESKTOP = AgentInfo("claude-desktop", "Claude Desktop")
CURSOR = AgentInfo(
    "cursor",
    "Cursor",
    # Only the events that carry words: its transcript has less than these.
    events={
        "sessionStart": Hook(),
        "beforeSubmitPrompt": Hook(),
        "afterAgentThought": Hook(),
        "afterAgentResponse": Hook(),
        "afterShellExecution": Hook(),
        "afterMCPExecution": Hook(),
        "afterFileEdit": Hook(),
    },
    wordless_events=(
        "sessionStart", "sessionEnd", "stop", "preToolUse", "postToolUse", "postToolUseFailure", "preCompact",
        "subagentStart", "subagentStop", "beforeShellExecution", "beforeMCPExecution", "beforeReadFile",
        "beforeTabFileRead", "afterTabFileEdit", "workspaceOpen",
    ),
    replies={b"beforeSubmitPrompt": b'{"continue": true}\n'},
    context_key="additional_context",
    sessions=(
        SessionFiles(
            "CURSOR_DATA_DIR", "~/.cursor", "projects",
            "*/agent-transcripts/**/*.jsonl", "*/agent-transcripts/**/{}.jsonl",
        ),
        SessionFiles(
            "CURSOR_DATA_DIR", "~/.cursor", "projects", "*/agent-transcripts/*.txt", "*/agent-transcripts/{}.txt"
        ),
    ),
)  # fmt: skip
CLINE = AgentInfo(
    "cline",
    "Cline",
    tested="3.0.65",
    api="chat completions",
    # Those that carry words, and the ends of a run: in one-shot mode, the CLI calls no hook for the prompt.
    events={
        "UserPromptSubmit": Hook(),
        "PostToolUse": Hook(),
        "TaskComplete": Hook(),
        "TaskCancel": Hook(),
        "SessionShutdown": Hook(),
    },
    wordless_events=(
        "TaskStart",
        "TaskResume",
        "TaskCancel",
        "TaskError",
        "PreToolUse",
        "PreCompact",
        "SessionShutdown",
    ),
    replies={b"": b'{"cancel": false}\n'},
    has_transcript=True,
    sessions=(
        SessionFiles("CLINE_DIR", "~/.cline", "data/tasks", *_TASKS),
        SessionFiles("CLINE_DIR", "~/.cline", "data/sessions", *_SESSIONS),
        SessionFiles("CLINE_DATA_DIR", "~/.cline/data", "tasks", *_TASKS),
        SessionFiles("CLINE_DATA_DIR", "~/.cline/data", "sessions", *_SESSIONS),
    ),
)
VSCODE = AgentInfo(
    "vscode",
    "VS Code",
    # It runs the hooks of Copilot CLI and of Claude Code, and sends them events of its own.
    events={name: Hook() for name in ("SessionStart", "UserPromptSubmit", "PostToolUse", "Stop")},
    wordless_events=("Stop", *_CLAUDE_WORDLESS),
    has_transcript=True,
)
CODEX = AgentInfo(
    "codex",
    "Codex",
    tested="0.171.0",
    api="Responses",
    events={**_CLAUDE_HOOKS, "SessionEnd": Hook(timeout_seconds=3)},  # its own limit
    wordless_events=_CLAUDE_WORDLESS,
    prompt_event="UserPromptSubmit",
    context_bytes_max=9_900,  # a preview over 2,500 tokens of four bytes
    has_transcript=True,
    sessions=(
        SessionFiles("CODEX_HOME", "~/.codex", "sessions", "**/rollout-*.jsonl", "**/*-{}.jsonl"),
        SessionFiles("CODEX_HOME", "~/.codex", "archived_sessions", "rollout-*.jsonl", "*-{}.jsonl"),
    ),
)
PI = AgentInfo(
    "pi", "pi", sessions=(SessionFiles("PI_CODING_AGENT_DIR", "~/.pi/agent", "sessions", "**/*.jsonl"),)
)  # fmt: skip

GEMINI = AgentInfo(
    "gemini",
    "Gemini CLI",
    tested="0.61.0",
    api="Gemini",
    # AfterAgent has the words of all answers to a prompt joined, which the transcript has one by one.
    # Not PreCompress, which comes before every request, compacted or not; nothing comes after a compaction.
    events={"SessionStart": Hook(), "BeforeAgent": Hook(), "AfterTool": Hook(), "AfterAgent": Hook(),
            "SessionEnd": Hook()},
    wordless_events=("SessionStart", "SessionEnd", "AfterAgent", "PreCompress", "Notification", "BeforeModel",
                     "AfterModel", "BeforeToolSelection", "BeforeTool"),
    event_names={"BeforeAgent": "UserPromptSubmit", "AfterTool": "PostToolUse"},
    has_transcript=True,
    sessions=(
        SessionFiles(
            "GEMINI_CLI_HOME", "~", ".gemini/tmp", "*/chats/session-*.json*", "*/chats/session-*{0:.8}*.json*"
        ),
    ),
)  # fmt: skip
QWEN_CODE = AgentInfo(
    "qwen-code",
    "Qwen Code",
    tested="0.15.10",
    api="chat completions",
    # It ignores what the hook of a session's start prints, and in print mode it does not call it.
    events={
        "SessionStart": Hook(COMPACTED),
        **{name: Hook() for name in ("UserPromptSubmit", "PostToolUse", "Stop", "SessionEnd")},
    },
    wordless_events=_CLAUDE_WORDLESS,
    context_event="UserPromptSubmit",
    compaction_events={"SessionStart": _AFTER_COMPACTION},
    recap_events=("UserPromptSubmit",),  # before every request
    has_transcript=True,
    sessions=(SessionFiles("", "~/.qwen", "projects", "*/chats/*.jsonl", "*/chats/{}.jsonl"),),
)
OPENCODE = AgentInfo(
    "opencode",
    "opencode",
    tested="1.18.33",
    api="chat completions",
    # Our plugin sends them.
    events={name: Hook() for name in ("SessionStart", "UserPromptSubmit", "Stop")},
    wordless_events=("SessionStart", "Stop"),
    has_transcript=True,
    sessions=(
        SessionFiles("XDG_DATA_HOME", "~/.local/share", "opencode", "opencode.db", "opencode.db"),
        SessionFiles("XDG_DATA_HOME", "~/.local/share", "opencode/storage/session", "*/ses_*.json", "*/{}.json"),
    ),
)
COPILOT_CLI = AgentInfo(
    "copilot-cli",
    "GitHub Copilot CLI",
    tested="1.0.102",
    api="chat completions",
    # Under these names its events have Claude Code's fields; under its own (`sessionStart`) they don't name themselves.
    events={
        name: Hook() for name in ("SessionStart", "UserPromptSubmit", "PostToolUse", "PreCompact", "Stop", "SessionEnd")
    },
    wordless_events=("Stop", "PostToolUse", *_CLAUDE_WORDLESS),
    compaction_events={"PreCompact": None},
    recap_events=("UserPromptSubmit", "PostToolUse"),
    replaces_outputs=True,
    context_key="additionalContext",
    has_transcript=True,
    sessions=(
        SessionFiles("COPILOT_HOME", "~/.copilot", "session-state", "*/events.jsonl", "{}/events.jsonl"),
        SessionFiles("COPILOT_HOME", "~/.copilot", "session-state", "*.jsonl", "{}.jsonl"),
    ),
)
COPILOT_CHAT = AgentInfo("copilot-chat", "GitHub Copilot Chat")  # its sessions are in the editors' folders
CONTINUE = AgentInfo(
    "continue", "Continue", sessions=(SessionFiles("CONTINUE_GLOBAL_DIR", "~/.continue", "sessions", "*-*.json"),)
)
GOOSE = AgentInfo(
    "goose",
    "Goose",
    sessions=(
        SessionFiles("XDG_DATA_HOME", "~/.local/share", "goose/sessions", "*.jsonl"),
        SessionFiles("XDG_DATA_HOME", "~/.local/share", "goose/sessions", "sessions.db"),
    ),
)
AMP = AgentInfo(
    "amp", "Amp", sessions=(SessionFiles("XDG_DATA_HOME", "~/.local/share", "amp/threads", "T-*.json", "{}.json"),)
)
DROID = AgentInfo("droid", "Factory Droid", sessions=(SessionFiles("", "~/.factory", "sessions", "**/*.jsonl"),))
KIRO = AgentInfo(
    "kiro", "Kiro", sessions=(SessionFiles("XDG_DATA_HOME", "~/.local/share", "kiro-cli", "data.sqlite3"),)
)
ZED = AgentInfo("zed", "Zed", sessions=(SessionFiles("XDG_DATA_HOME", "~/.local/share", "zed/threads", "threads.db"),))
# Only their servers are registered.
WINDSURF, JETBRAINS = AgentInfo("windsurf", "Windsurf"), AgentInfo("jetbrains", "JetBrains Junie")
ROO, KILO = AgentInfo("roo", "Roo Code"), AgentInfo("kilo", "Kilo Code")  # their tasks are in the editors' folders

_KNOWN = (
    CLAUDE_CODE, CLAUDE_DESKTOP, CURSOR, CLINE, VSCODE, CODEX, PI, GEMINI, QWEN_CODE, OPENCODE, COPILOT_CLI,
    COPILOT_CHAT, CONTINUE, GOOSE, AMP, DROID, KIRO, ZED,
    WINDSURF, JETBRAINS, ROO, KILO,
)  # fmt: skip
AGENTS = {agent.id: agent for agent in _KNOWN}


def session_of_output(conversation_id: str) -> str | None:
    """Returns the session's conversation of one that has the whole of an output; None if it is not such a one."""
    session, separator, _ = conversation_id.partition(OF_OUTPUT)
    return session if separator else None


def info_of(agent_id: str) -> AgentInfo:
    """Returns the facts about an agent; for one that is not in the table, only its id."""
    return AGENTS.get(agent_id) or AgentInfo(agent_id, agent_id)


def context_events(agent_id: str) -> tuple[str, ...]:
    """Returns the events of an agent whose reply may bring a session its context."""
    event = info_of(agent_id).context_event
    return (event,) if event else SESSION_STARTS
