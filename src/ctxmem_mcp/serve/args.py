"""The arguments of `ctxmem-mcp` and `ctxmem-mcp serve`.

Parsed by argparse, which loads in a millisecond: a host waits for everything that runs before the first response.
"""

from __future__ import annotations

import argparse
import sys

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.serve.run import serve
from ctxmem_mcp.settings import SETTINGS, Settings
from ctxmem_mcp.settings.setting import Setting
from ctxmem_mcp.settings.sources import CONFIG_HELP

_FLAGS = [setting for setting in SETTINGS.values() if setting.flag]


def run(arguments: list[str]) -> int:
    """Parses the arguments and runs the server.

    Returns:
        The exit code: 1 if the settings are refused or the memory can't be used. Arguments that can't be parsed end the
        process with code 2.
    """
    words = list(arguments)
    if "serve" in words:
        words.remove("serve")
    parsed = parser().parse_args(words)
    flags = {setting.name: getattr(parsed, setting.name) for setting in _FLAGS}
    try:
        settings = Settings.load(flags, config_path=parsed.config)
        serve(settings, transport=parsed.transport, insecure=parsed.insecure)
    except CtxmemError as error:
        print(f"ctxmem-mcp: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctxmem-mcp serve",
        description="Serve the memory as an MCP server: over stdio to the agent that starts it, or over HTTP.",
        allow_abbrev=False,
    )
    parser.add_argument("--transport", choices=("stdio", "http"), default="stdio", help="Default: stdio.")
    parser.add_argument("--config", metavar="FILE", help=CONFIG_HELP)
    for setting in _FLAGS:
        parser.add_argument(
            setting.flag,
            dest=setting.name,
            metavar=None if setting.kind.choices else setting.name.rpartition("_")[2].upper(),
            choices=setting.kind.choices or None,
            help=_help(setting),
        )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="Allow --host to be reachable from other machines without authentication or allowed hosts.",
    )
    return parser


def _help(setting: Setting) -> str:
    default = f" Default: {setting.default_text}." if setting.default_text else ""
    return f"{setting.help}{default}".replace("%", "%%")
