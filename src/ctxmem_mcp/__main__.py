"""The entry point of `ctxmem-mcp` and `python -m ctxmem_mcp`.

A host starts the server without arguments and waits for its first response, so the server has a small argument parser
of its own. An agent waits for each of its hooks, so a hook loads next to nothing. The version and the help pages load
nothing more. Everything else is a command of the full command line, whose libraries load more slowly than the server.
"""

from __future__ import annotations

import os
import sys

# Set by the scripts of a shell's completion.
_COMPLETE = "_CTXMEM_MCP_COMPLETE"
_SERVE = "serve"
_HOOK = "hook"
_HELP = ("-h", "--help")
_FLAGS_WITH_VALUE = ("--data-dir", "--config", "--transport", "--host", "--port", "--allowed-hosts", "--log-level")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: default: those of the process.

    Returns:
        The exit code: 0 done, 1 refused or not found, 2 wrong usage.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == [_HOOK] and not any(flag in words for flag in _HELP):
        from ctxmem_mcp.hooks import entry

        return entry.run(words)
    completes = _COMPLETE in os.environ
    if _is_serve(words) and not completes:
        from ctxmem_mcp.serve import args

        return args.run(words)
    from ctxmem_mcp import cli

    return cli.run(words, completes=completes)


def _is_serve(words: list[str]) -> bool:
    """Whether there is no other command: no words, `serve`, or only flags."""
    if any(word in (*_HELP, "--version") for word in words):
        return False
    return not words or words[0] == _SERVE or (words[0].startswith("-") and not _has_command(words))


def _has_command(words: list[str]) -> bool:
    """Whether a command other than serve follows the flags, as in `--data-dir DIR list`."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if "=" not in flag and flag in _FLAGS_WITH_VALUE and rest:
            rest.pop(0)
    return bool(rest) and rest[0] != _SERVE


if __name__ == "__main__":
    sys.exit(main())
