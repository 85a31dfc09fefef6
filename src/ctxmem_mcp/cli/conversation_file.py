"""A conversation as one `.ctxmem` file, to move it to another machine or another run."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxmem_mcp import encryption
from ctxmem_mcp.capture.redaction import CountedRedactor
from ctxmem_mcp.composition import open_folder
from ctxmem_mcp.errors import BrokenHistory, CtxmemError, InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import iso
from ctxmem_mcp.private_files import open_new, read_file
from ctxmem_mcp.transfer import TransferResult, transfer_conversation

SUFFIX = ".ctxmem"
_FOLDER = "conversations"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What an export leaves out, and who may read it.

    Attributes:
        until: Only the branch that ends at this turn is written; None: all branches are.
        redact_secrets: Keys and tokens are replaced.
        author: Who exports it, as the file says.
        is_encrypted: The file is encrypted: for the recipients' keys, or with the passphrase if there are none.
        recipients: Public keys of age or SSH.
        passphrase: The passphrase.
    """

    until: str | None = None
    redact_secrets: bool = False
    author: str = ""
    is_encrypted: bool = False
    recipients: Sequence[str] = ()
    passphrase: str | None = None


async def export_file(
    memory: Memory, conversation_id: str, path: Path, *, replace: bool, options: ExportOptions | None = None
) -> tuple[TransferResult, Mapping[str, Any]]:
    """Writes the conversation to `path`, completely or not at all.

    Args:
        memory: Where it is stored.
        conversation_id: The conversation.
        path: The file to write.
        replace: Overwrite an existing file.
        options: What is left out, and who may read it.

    Returns:
        What was written, and the origin that the file states.

    Raises:
        InvalidArgument: The file exists, or an extra is not installed.
    """
    options = options or ExportOptions()
    _check_target(path, replace)
    secrets = CountedRedactor() if options.redact_secrets else None
    # What is encrypted is written in the clear to the system's folder for temporary files only.
    parent = None if options.is_encrypted else path.parent
    with tempfile.TemporaryDirectory(prefix="ctxmem-export-", dir=parent) as folder:
        async with open_folder(Path(folder), redact=secrets) as copy:
            done = await transfer_conversation(memory, conversation_id, copy, until=options.until)
            origin = await _origin(copy, conversation_id, options, secrets)
            await copy.set_origin(conversation_id, origin)
        (written,) = (Path(folder) / _FOLDER).glob(f"*{SUFFIX}")
        if options.is_encrypted:
            _write_encrypted(written, path, options)
        else:
            written.replace(path)
    return done, origin


async def _origin(
    copy: Memory, conversation_id: str, options: ExportOptions, secrets: CountedRedactor | None
) -> dict[str, Any]:
    redacted = {
        turn.id
        for tip in await copy.branches(conversation_id)
        for turn in await copy.history(conversation_id, turn_id=tip.id)
        if turn.is_redacted
    }
    return {
        "from": options.author,
        "at": iso(time.time()),
        "until": options.until and (await copy.head(conversation_id)).id,
        "secrets": secrets.counts if secrets else {},
        "redacted_turns": len(redacted),
    }


def describe_origin(origin: Mapping[str, Any]) -> Iterator[str]:
    """Yields sentences that say whom an exported file is from, and what was taken out of it."""
    author, at = str(origin.get("from") or "someone"), str(origin.get("at") or "")
    yield f"From {author}, exported {at[: len('2026-01-01')]}."
    if until := origin.get("until"):
        yield f"Ends at {until}; later turns and other branches were left out."
    secrets = origin.get("secrets")
    if isinstance(secrets, dict) and secrets:
        counts = ", ".join(f"{count} x {kind}" for kind, count in secrets.items())
        yield f"Secrets replaced: {counts}. From the first one on, turns have other ids than where they come from."
    if turns := origin.get("redacted_turns"):
        yield f"Turns redacted: {turns}."


def _write_encrypted(written: Path, path: Path, options: ExportOptions) -> None:
    raw = encryption.encrypt(written.read_bytes(), passphrase=options.passphrase, recipients=options.recipients)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.aside")
    with os.fdopen(open_new(unfinished), "wb") as file:
        file.write(raw)
    unfinished.replace(path)


def _check_target(path: Path, replace: bool) -> None:
    if path.is_dir():
        raise InvalidArgument(f"FILE {path}", "is a folder", "Name a file in it.")
    if path.exists() and not replace:
        raise InvalidArgument(f"FILE {path}", "exists already", "Name another file, or add --force.")
    if not path.parent.is_dir():
        raise InvalidArgument(f"FILE {path}", "is in a folder that does not exist", "Create the folder first.")


async def import_file(
    path: Path, memory: Memory, *, again: bool = False, passphrase: str | None = None, identity: str | None = None
) -> tuple[TransferResult, Mapping[str, Any] | None]:
    """Imports the conversation of an exported file. Turns that are already stored stay; the file is not changed.

    Args:
        path: The file.
        memory: Where to store it.
        again: Import it even if it was forgotten.
        passphrase: That of an encrypted file.
        identity: The secret key for an encrypted file.

    Returns:
        What was stored, and the origin that the file states, if any.

    Raises:
        BrokenHistory: A hash in the file is wrong; nothing was imported.
        InvalidArgument: The passphrase or the key is the wrong one.
        Forgotten: The conversation was forgotten, and `again` is false.
    """
    with tempfile.TemporaryDirectory(prefix="ctxmem-import-") as folder:
        clear = path
        if is_encrypted(path):
            clear = Path(folder) / f"decrypted{SUFFIX}"
            clear.write_bytes(encryption.decrypt(read_file(path), passphrase=passphrase, identity=identity))
        async with open_folder(Path(folder), clear) as copy:
            conversation_id = await _verified_id(copy, path)
            origin = await copy.origin(conversation_id)
            return await transfer_conversation(copy, conversation_id, memory, again=again), origin


def is_encrypted(path: Path) -> bool:
    """Returns whether a file is encrypted."""
    return encryption.is_encrypted(read_file(path, 64))


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
