"""The command's door: `ctxmem-mcp` and `python -m ctxmem_mcp`.

A host starts the server with no arguments and waits for its first answer, so that way goes by a small parser of its
own. An agent waits for each of its hooks, so that way loads next to nothing. Whatever else is asked for goes to the
full command, whose libraries take longer to load than the server itself.
"""

from __future__ import annotations

import sys

_SERVE = "serve"
_HOOK = "hook"
_TAKE_A_VALUE = ("--data-dir", "--config", "--transport", "--host", "--port", "--allowed-hosts", "--log-level")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; gives the exit code: 0 done, 1 refused or not found, 2 not understood."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == [_HOOK] and "--help" not in given:
        from ctxmem_mcp.hooks import entry

        return entry.run(given)
    if _asks_to_serve(given):
        from ctxmem_mcp.serve import args

        return args.run(given)
    from ctxmem_mcp import cli

    return cli.run(given)


def _asks_to_serve(given: list[str]) -> bool:
    """No arguments, or only flags of the server: the first word that is no flag would be another command."""
    if any(word in ("-h", "--help", "--version") for word in given):
        return False
    return not given or given[0] == _SERVE or (given[0].startswith("-") and not _names_a_command(given))


def _names_a_command(given: list[str]) -> bool:
    """`--data-dir DIR list`: the word after a flag is its value, and the one after that the command."""
    rest = list(given)
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if "=" not in flag and flag in _TAKE_A_VALUE and rest:
            rest.pop(0)
    return bool(rest) and rest[0] != _SERVE


if __name__ == "__main__":
    sys.exit(main())
