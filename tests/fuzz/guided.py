"""A process in which atheris fuzzes one target: `python -m tests.fuzz.guided TARGET [FLAGS OF LIBFUZZER] CORPUS`.

A library with compiled code must not be instrumented; only ctxmem_mcp is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGETS = ("transcripts", "arguments")


def write_seeds(target: str, folder: Path) -> None:
    """Writes a valid input of each format or tool."""
    from tests.fuzz.test_interfaces import ARGUMENTS
    from tests.transcripts.chats import ENCODERS
    from tests.transcripts.test_fuzz import STEPS

    folder.mkdir(parents=True)
    if target == "arguments":
        seeds = [bytes([number]) + json.dumps(given).encode() for number, given in enumerate(ARGUMENTS.values())]
    else:
        seeds = [
            bytes([encoder.suffix == ".jsonl"])
            + encoder.encode([step for step in STEPS if step.kind in encoder.kinds]).encode()
            for encoder in ENCODERS
        ]
    for number, seed in enumerate(seeds):
        (folder / str(number)).write_bytes(seed)


def parse_transcript(raw: bytes) -> None:
    """The first byte says which suffix the file has."""
    from ctxmem_mcp.errors import InvalidArgument
    from ctxmem_mcp.transcripts import registry

    suffix = (".json", ".jsonl")[raw[0] % 2] if raw else ".json"
    try:
        found = registry.parse(raw[1:].decode("utf-8", "replace"), f"chat{suffix}")
    except InvalidArgument:
        return
    for transcript in () if found is None else (found, *found.threads):
        for turn in (*transcript.turns, *(turn for branch in transcript.abandoned_branches for turn in branch)):
            assert turn.role in ("user", "assistant", "system", "tool"), turn.role
            turn.content.encode()


def validate_arguments(raw: bytes) -> None:
    """The first byte says which tool is called."""
    from pydantic import ValidationError

    from ctxmem_mcp.mcp_server.tool_arguments import describe_errors
    from ctxmem_mcp.mcp_server.tools import TOOLS

    try:
        given: Any = json.loads(raw[1:])
    except (ValueError, RecursionError):
        return
    if not isinstance(given, dict):
        return
    tool = TOOLS[raw[0] % len(TOOLS)]
    try:
        tool.arguments.model_validate(given)
    except ValidationError as error:
        describe_errors(error, tool.name, tool.input_schema)


def main() -> None:
    import atheris

    target = sys.argv.pop(1)
    runs: dict[str, Callable[[bytes], None]] = {"transcripts": parse_transcript, "arguments": validate_arguments}
    with atheris.instrument_imports(include=["ctxmem_mcp"]):
        import ctxmem_mcp.mcp_server.tools
        import ctxmem_mcp.transcripts.registry  # noqa: F401
    atheris.Setup(sys.argv, runs[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
