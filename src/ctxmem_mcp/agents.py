"""Facts about each agent: one table, read by capture, the hooks, the installer and the parsers.

It imports nothing, so that a hook process starts as fast without it as with it.
"""

from __future__ import annotations

SESSION_STARTS = ("SessionStart", "sessionStart")
SESSION_ENDS = ("SessionEnd",)
# Cline's transcript, named alike in every task's folder; and that of newer versions, named for its session.
CLINE_TASK_FILE = "api_conversation_history.json"
CLINE_SESSION_SUFFIX = ".messages.json"


class Hook:
    """How an event's hook is registered.

    matcher: the kinds of the event it is called for; None: all.
    timeout_seconds: how long the agent waits for it; the hook itself takes milliseconds.
    """

    __slots__ = ("matcher", "timeout_seconds")

    def __init__(self, matcher: str | None = None, timeout_seconds: int = 10) -> None:
        self.matcher, self.timeout_seconds = matcher, timeout_seconds


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
    events: those that a hook is registered for.
    wordless_events: others that it may send, which carry no words.
    replies: what a hook prints for an event that contains these bytes; nothing unless the agent expects it.
    context_key: the key of the context in the reply to a session's start; None: Claude Code's format.
    context_bytes_max: longer contexts are shown to the model as a preview only; None: no limit is known.
    has_transcript: its transcript has everything that its events have.
    sessions: where its transcripts are.
    """

    __slots__ = (
        "context_bytes_max", "context_key", "events", "has_transcript", "id", "replies", "sessions", "title",
        "wordless_events",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        title: str,
        *,
        events: dict[str, Hook] | None = None,
        wordless_events: tuple[str, ...] = (),
        replies: dict[bytes, bytes] | None = None,
        context_key: str | None = None,
        context_bytes_max: int | None = None,
        has_transcript: bool = False,
        sessions: tuple[SessionFiles, ...] = (),
    ) -> None:
        self.id, self.title = id, title
        self.events, self.wordless_events, self.replies = events or {}, wordless_events, replies or {}
        self.context_key, self.context_bytes_max = context_key, context_bytes_max
        self.has_transcript, self.sessions = has_transcript, sessions


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

CLAUDE_CODE = AgentInfo(
    "claude-code",
    "Claude Code",
    events=_CLAUDE_HOOKS,
    wordless_events=_CLAUDE_WORDLESS,
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
VSCODE = AgentInfo("vscode", "VS Code")
CODEX = AgentInfo(
    "codex",
    "Codex",
    events={**_CLAUDE_HOOKS, "SessionEnd": Hook(timeout_seconds=3)},  # its own limit
    wordless_events=_CLAUDE_WORDLESS,
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
    sessions=(
        SessionFiles(
            "GEMINI_CLI_HOME", "~", ".gemini/tmp", "*/chats/session-*.json*", "*/chats/session-*{0:.8}*.json*"
        ),
    ),
)
QWEN_CODE = AgentInfo("qwen-code", "Qwen Code", sessions=(SessionFiles("", "~/.qwen", "projects", "*/chats/*.jsonl"),))
OPENCODE = AgentInfo(
    "opencode",
    "opencode",
    sessions=(
        SessionFiles("XDG_DATA_HOME", "~/.local/share", "opencode", "opencode.db"),
        SessionFiles("XDG_DATA_HOME", "~/.local/share", "opencode/storage/session", "*/ses_*.json", "*/{}.json"),
    ),
)
COPILOT_CLI = AgentInfo(
    "copilot-cli",
    "GitHub Copilot CLI",
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
    "kiro", "Kiro CLI", sessions=(SessionFiles("XDG_DATA_HOME", "~/.local/share", "kiro-cli", "data.sqlite3"),)
)
ZED = AgentInfo("zed", "Zed", sessions=(SessionFiles("XDG_DATA_HOME", "~/.local/share", "zed/threads", "threads.db"),))

_KNOWN = (
    CLAUDE_CODE, CLAUDE_DESKTOP, CURSOR, CLINE, VSCODE, CODEX, PI, GEMINI, QWEN_CODE, OPENCODE, COPILOT_CLI,
    COPILOT_CHAT, CONTINUE, GOOSE, AMP, DROID, KIRO, ZED,
)  # fmt: skip
AGENTS = {agent.id: agent for agent in _KNOWN}


def info_of(agent_id: str) -> AgentInfo:
    """Returns the facts about an agent; for one that is not in the table, only its id."""
    return AGENTS.get(agent_id) or AgentInfo(agent_id, agent_id)
