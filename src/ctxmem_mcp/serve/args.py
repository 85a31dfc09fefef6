"""Starting the server from the command line: `ctxmem-mcp`, `ctxmem-mcp serve --transport http`.

By argparse, which loads in a millisecond: what stands between a host and its first answer is kept this small.
"""

from __future__ import annotations

import argparse
import sys

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.serve.run import serve
from ctxmem_mcp.settings import LOG_LEVELS, Settings


def run(given: list[str]) -> int:
    """Serves as these words say; gives the exit code. Not understood words end the process with code 2."""
    words = _parser().parse_args([word for i, word in enumerate(given) if word != "serve" or "serve" in given[:i]])
    names = ("data_dir", "log_level", "allowed_hosts", "http_host", "http_port")
    flags = {name: getattr(words, name) for name in names}
    try:
        serve(
            Settings.load(flags, config_path=words.config),
            transport=words.transport,
            insecure=words.insecure,
        )
    except CtxmemError as error:
        print(f"ctxmem-mcp: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctxmem-mcp serve",
        description="Serves the memory as an MCP server: over stdio for the agent that starts it, or over HTTP.",
        allow_abbrev=False,
    )
    parser.add_argument("--transport", choices=("stdio", "http"), default="stdio", help="default: stdio")
    parser.add_argument("--host", dest="http_host", metavar="HOST", help="where HTTP listens; default: 127.0.0.1")
    parser.add_argument("--port", dest="http_port", metavar="PORT", help="its port, 0 for any free one; default: 8765")
    parser.add_argument("--allowed-hosts", metavar="NAMES", help="what others call this server, with commas between")
    parser.add_argument("--insecure", action="store_true", help="allow a bind that other machines can reach")
    parser.add_argument("--data-dir", metavar="DIR", help="the folder conversations are kept in")
    parser.add_argument("--config", metavar="FILE", help="a config file other than the platform's")
    parser.add_argument("--log-level", choices=LOG_LEVELS, help="what goes to stderr; default: warning")
    return parser
