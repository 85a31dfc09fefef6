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
    """Writes the conversation to `path`, completely or not at all. replace: overwrite an existing file."""
    _check_target(path, replace)
    with tempfile.TemporaryDirectory(prefix="ctxmem-export-", dir=path.parent) as folder:
        async with open_folder(Path(folder)) as copy:
            done = await transfer_conversation(memory, conversation_id, copy)
        _move(Path(folder), path)
    return done


def _check_target(path: Path, replace: bool) -> None:
    if path.is_dir():
        raise InvalidArgument(f"FILE {path}", "is a folder", "Name a file in it.")
    if path.exists() and not replace:
        raise InvalidArgument(f"FILE {path}", "exists already", "Name another file, or add --force.")
    if not path.parent.is_dir():
        raise InvalidArgument(f"FILE {path}", "is in a folder that does not exist", "Create the folder first.")


def _move(data_dir: Path, path: Path) -> None:
    (written,) = (data_dir / _FOLDER).glob(f"*{SUFFIX}")
    written.replace(path)


async def import_file(path: Path, memory: Memory, *, again: bool = False) -> TransferResult:
    """Imports the conversation of an exported file. Turns that are already stored stay; the file is not changed.

    Raises:
        BrokenHistory: a hash in the file is wrong; nothing was imported.
        Forgotten: the conversation was forgotten, and `again` is false.
    """
    with tempfile.TemporaryDirectory(prefix="ctxmem-import-") as folder:
        async with open_folder(Path(folder), path) as copy:
            conversation_id = await _verified_id(copy, path)
            return await transfer_conversation(copy, conversation_id, memory, again=again)


async def _verified_id(copy: Memory, path: Path) -> str:
    """The id of the conversation in the file, after its hashes were checked."""
    try:
        (info,) = (await copy.conversations(limit=1)).conversations
        # A lost turn's note does not hash to its id, so the turns after it would get other ids.
        faults = await copy.verify(info.conversation_id) or await copy.lost_turns(info.conversation_id)
    except (CtxmemError, OSError):  # an error in reading is not damage
        raise
    except Exception as error:  # changed bytes fail wherever they are read
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if faults:
        raise _damaged(path, faults[0] + (f", and {len(faults) - 1:,} more" if faults[1:] else ""))
    return info.conversation_id


def _damaged(path: Path, what: str) -> BrokenHistory:
    return BrokenHistory(f"{path} is damaged, and nothing of it was imported: {what}.", "Export it again.")
