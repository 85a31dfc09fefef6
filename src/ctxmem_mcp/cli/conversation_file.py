"""A conversation as one `.ctxmem` file, to move it to another machine or another run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ctxmem_mcp.composition import open_folder
from ctxmem_mcp.errors import BrokenHistory, CtxmemError, InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.transfer import TransferResult, transfer_conversation

SUFFIX = ".ctxmem"
_FOLDER = "conversations"


async def export_file(memory: Memory, conversation_id: str, path: Path, *, replace: bool) -> TransferResult:
    """Writes the conversation to `path`, whole or not at all. A file that is there is replaced only when told so."""
    _check_place(path, replace)
    with tempfile.TemporaryDirectory(prefix="ctxmem-export-", dir=path.parent) as folder:
        async with open_folder(Path(folder)) as apart:
            done = await transfer_conversation(memory, conversation_id, apart)
        _move(Path(folder), path)
    return done


def _check_place(path: Path, replace: bool) -> None:
    if path.is_dir():
        raise InvalidArgument(f"PATH {path}", "is a folder", "Name the file to write in it.")
    if path.exists() and not replace:
        raise InvalidArgument(f"PATH {path}", "is there already", "Name another, or say --force.")
    if not path.parent.is_dir():
        raise InvalidArgument(f"PATH {path}", "lies in a folder that is not there", "Make the folder first.")


def _move(data_dir: Path, path: Path) -> None:
    (written,) = (data_dir / _FOLDER).glob(f"*{SUFFIX}")
    written.replace(path)


async def import_file(path: Path, memory: Memory) -> TransferResult:
    """Brings the conversation of an exported file in, if all of it is as it was sent. What is known stays; the file is
    not touched."""
    with tempfile.TemporaryDirectory(prefix="ctxmem-import-") as folder:
        async with open_folder(Path(folder), path) as apart:
            conversation_id = await _checked(apart, path)
            return await transfer_conversation(apart, conversation_id, memory)


async def _checked(apart: Memory, path: Path) -> str:
    """The conversation's id; raises where the file does not hold what its ids say."""
    try:
        (info,) = (await apart.conversations(limit=1)).conversations
        faults = await apart.verify(info.conversation_id)
    except CtxmemError:
        raise
    except Exception as error:  # bytes that changed on the way fail wherever they are read
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if faults:
        raise _damaged(path, faults[0] + (f", and {len(faults) - 1:,} more" if faults[1:] else ""))
    return info.conversation_id


def _damaged(path: Path, what: str) -> BrokenHistory:
    return BrokenHistory(f"{path} is damaged, and nothing of it was taken in: {what}.", "Export it anew.")
