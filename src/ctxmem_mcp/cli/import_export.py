"""The commands `import`, `export`, `backup` and `watch`."""

from __future__ import annotations

import asyncio
import getpass
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxmem_mcp import encryption
from ctxmem_mcp.capture import hook_records, importer, watcher
from ctxmem_mcp.capture.importer import ImportResult
from ctxmem_mcp.capture.spool_worker import LOCK_SECONDS, spool_lock
from ctxmem_mcp.capture.transcript_sync import TranscriptSync
from ctxmem_mcp.cli import conversation_file, import_files, output, unknown_files
from ctxmem_mcp.cli.conversation_file import ExportOptions
from ctxmem_mcp.cli.runner import GlobalOptions, record, resolve_conversation, with_memory
from ctxmem_mcp.errors import Forgotten, InvalidArgument, NotFound
from ctxmem_mcp.index_worker import finish_index
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.private_files import read_file
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.transfer import TransferResult

if TYPE_CHECKING:
    from ctxmem_mcp.backup import BackupResult

POLL_SECONDS = 2.0
WARNINGS_SHOWN = 5
EXPORT_SUFFIXES = (conversation_file.SUFFIX, encryption.SUFFIX)
CHANGE_RETENTION = (
    "Change it with --retention-days or CTXMEM_RETENTION_DAYS, or for one with `ctxmem-mcp retention ID DAYS`."
)


# ---------------------------------------------------------------- import PATH


def import_paths(
    options: GlobalOptions, paths: Sequence[Path], retention_days: int | None, as_json: bool, *, again: bool = False
) -> int:
    """Imports transcripts and `.ctxmem` files. again: also what was forgotten.

    Returns:
        The exit code: 1 if a named file was refused or holds no turns; the others are imported all the same.
    """
    exported = [path for path in paths if path.suffix in EXPORT_SUFFIXES and path.is_file()]
    keys = _keys_for(options, exported)
    files, named, others = importer.find_files([path for path in paths if path not in exported])
    read, refused, unknown = import_files.read_transcripts(files, named)

    async def work(memory: Memory) -> tuple[list[ImportResult], str]:
        transcripts = list(importer.with_threads(read))
        total = sum(
            len(way) for _, transcript in transcripts for way in (*transcript.abandoned_branches, transcript.turns)
        )
        with _turns_progress(total, as_json) as advance:
            done: list[ImportResult | None] = []
            imported: list[Path] = []
            worked_in: dict[str, str] = {}
            for file, one in transcripts:
                with _refusal(refused, file):
                    result = await importer.import_transcript(memory, file, one, retention_days, advance, again=again)
                    done.append(result)
                    imported.append(file)
                    if result is not None and result.new and one.cwd:
                        worked_in[result.conversation_id] = one.cwd
            for path in exported:
                with _refusal(refused, path):
                    done.append(await _import_exported(memory, path, keys, again))
        importer.forget_sync_records(options.settings().data_dir, imported)
        await _record_for_hooks(memory, options.settings().data_dir, worked_in)
        await _finish_index(memory, as_json)  # all is stored: a killed import leaves this to the next reader
        found = [one for one in done if one is not None]
        return found, await _retention(memory, [one.conversation_id for one in found])

    done, retention = with_memory(options, work)
    if as_json:
        output.print_json([asdict(imported) for imported in done])
    else:
        _print_imported(done)
        if retention:
            _print_line(f"{retention} {CHANGE_RETENTION}")
    if unknown or others:
        output.write(f"ctxmem-mcp: not imported: {unknown_files.describe(unknown, others)}", sys.stderr)
    for message in refused:
        output.write(f"ctxmem-mcp: {message}", sys.stderr)
    return 1 if refused else 0


async def _retention(memory: Memory, conversation_ids: Iterable[str]) -> str:
    """Returns a sentence that says how long conversations are kept; empty if there are none."""
    days = set[int]()
    for conversation_id in dict.fromkeys(conversation_ids):
        with suppress(NotFound):
            days.add((await memory.info(conversation_id)).retention_days)
    if not days:
        return ""
    span = output.counted(min(days), "day") if len(days) == 1 else f"{min(days)} to {max(days)} days"
    return f"Kept for {span} after the last turn was stored here."


@contextmanager
def _refusal(refused: list[str], file: Path) -> Iterator[None]:
    """Adds the message for a file whose conversation was forgotten; the others are imported."""
    try:
        yield
    except Forgotten:
        refused.append(f"{file}: its conversation was forgotten. Add --again to import it nevertheless.")


@dataclass(frozen=True, slots=True)
class _Keys:
    """What encrypted files are read with."""

    passphrase: str | None = None
    identity: str | None = None


async def _record_for_hooks(memory: Memory, data_dir: Path, worked_in: Mapping[str, str]) -> None:
    """Records imported conversations for the hooks. worked_in: the folder of each."""
    if not worked_in:
        return
    async with spool_lock(data_dir, LOCK_SECONDS) as is_locked:
        for conversation, cwd in worked_in.items() if is_locked else ():
            await hook_records.record(memory, data_dir, conversation, cwd, hook_records.IMPORTED_TURNS)


def _keys_for(options: GlobalOptions, paths: Sequence[Path]) -> _Keys:
    """Returns what the encrypted ones of these files need: of the settings, or as somebody types it."""
    encrypted = [path for path in paths if conversation_file.is_encrypted(path)]
    if not encrypted:
        return _Keys()
    settings, raws = options.settings(), [read_file(path, 64) for path in encrypted]
    passphrase = get_passphrase(settings, confirm=False) if any(map(encryption.needs_passphrase, raws)) else None
    identity = None
    if not all(map(encryption.needs_passphrase, raws)):
        if settings.age_identity is None:
            rule = f"is needed: {encrypted[0]} was encrypted for a key"
            raise InvalidArgument("CTXMEM_AGE_IDENTITY", rule, "Set it to the file with your secret key.")
        identity = encryption.read_identity(settings.age_identity)
    return _Keys(passphrase, identity)


def get_passphrase(settings: Settings, *, confirm: bool) -> str:
    """Returns the passphrase of the settings, or as somebody types it.

    Raises:
        InvalidArgument: There is none, and stdin is not a terminal.
    """
    if settings.passphrase:
        return settings.passphrase
    if not sys.stdin.isatty():
        raise InvalidArgument("CTXMEM_PASSPHRASE", "is required if stdin is not a terminal", "Set it.")
    import typer

    passphrase: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm)
    return passphrase


async def _import_exported(memory: Memory, path: Path, keys: _Keys, again: bool) -> ImportResult:
    done, origin = await conversation_file.import_file(
        path, memory, again=again, passphrase=keys.passphrase, identity=keys.identity
    )
    known = done.turns - done.new
    notes = list(conversation_file.describe_origin(origin)) if origin else []
    return ImportResult(str(path), "ctxmem", done.conversation_id, done.turns, known, done.new, done.head, notes=notes)


@contextmanager
def _turns_progress(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar if stderr is a terminal; yields the function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    err = Console(stderr=True)
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as progress:
        task = progress.add_task("turns", total=total)
        yield lambda count: progress.advance(task, count)


async def _finish_index(memory: Memory, quiet: bool) -> None:
    """Indexes what was imported, with a progress bar if stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    await memory.index_all()
    err = Console(stderr=True)
    columns = (TextColumn("indexing conversations"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as progress:
        task = progress.add_task("conversations", total=None)
        await finish_index(memory, lambda done, total: progress.update(task, completed=done, total=total))


def _print_imported(done: list[ImportResult]) -> None:
    out = output.console()
    for imported in done:
        added = output.counted(imported.new, "new turn")
        title = f"  {imported.title}" if imported.title else ""
        line = f"{imported.conversation_id}  {imported.agent}, {added}, {imported.known:,} already stored{title}"
        out.print(line, markup=False)
        for note in imported.notes:
            out.print(f"  {note}", markup=False)
        for warning in imported.warnings[:WARNINGS_SHOWN]:
            out.print(f"  {warning}", style="yellow", markup=False)
        if len(imported.warnings) > WARNINGS_SHOWN:
            out.print(f"  ... and {len(imported.warnings) - WARNINGS_SHOWN} more.", style="yellow")
    new, known = sum(imported.new for imported in done), sum(imported.known for imported in done)
    total = f"{output.counted(len(done), 'conversation')}: {output.counted(new, 'new turn')}"
    out.print(f"{total}, {known:,} already stored.")


# ---------------------------------------------------------------- import --all, watch


def import_all(options: GlobalOptions, retention_days: int | None, as_json: bool) -> None:
    """Imports the new turns of every transcript that agents keep on this machine."""
    files = watcher.all_transcripts()

    async def work(memory: Memory) -> tuple[list[watcher.SyncedFile], str]:
        transcript_sync = TranscriptSync(memory, options.settings().data_dir, retention_days)
        synced = [one async for one in watcher.sync_all(transcript_sync, _files_progress(files, as_json))]
        await _finish_index(memory, as_json)
        return synced, await _retention(memory, [one.conversation_id for one in synced if one.new])

    synced, retention = with_memory(options, work)
    if as_json:
        _print_line(json.dumps([asdict(one) for one in synced], ensure_ascii=False))
        return
    new, gone = sum(one.new for one in synced), sum(one.gone for one in synced)
    _print_line(f"{output.counted(len(synced) - gone, 'transcript')}: {output.counted(new, 'new turn')}.")
    if retention:
        _print_line(f"{retention} {CHANGE_RETENTION}")
    if gone:
        _print_line(f"{gone:,} skipped: forgotten or expired. `ctxmem-mcp import --again FILE` imports one.")
    if not files:
        _print_line("No transcripts found in the agents' folders; `ctxmem-mcp import PATH` imports any file or folder.")


def watch(options: GlobalOptions, paths: list[Path], poll_seconds: float, as_json: bool) -> None:
    """Imports additions to transcripts until it is interrupted; without paths, to those of all agents."""
    for path in paths:
        if not path.exists():
            raise InvalidArgument(f"PATH {path}", "does not exist", "Name a transcript or a folder.")
    find: Callable[[], list[Path]] = (lambda: watcher.transcripts_under(paths)) if paths else watcher.all_transcripts

    async def work(memory: Memory) -> None:
        transcript_sync = TranscriptSync(memory, options.settings().data_dir)
        async for synced in watcher.watch(transcript_sync, find, poll_seconds):
            if as_json:
                _print_line(json.dumps(asdict(synced), ensure_ascii=False))
            else:
                _print_line(
                    f"{time.strftime('%H:%M:%S')}  {synced.conversation_id}  {output.counted(synced.new, 'new turn')}"
                )

    if not as_json:
        _print_line(f"Watching {output.counted(len(find()), 'transcript')}; press Control-C to stop.")
    with suppress(KeyboardInterrupt):
        with_memory(options, work)


def _files_progress(files: list[Path], quiet: bool) -> Iterable[Path]:
    """The files, with a progress bar if stderr is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown = not quiet and console.is_terminal
    return track(files, "importing", console=console, transient=True, disable=not shown)


def _print_line(line: str) -> None:
    output.write(line)
    sys.stdout.flush()


# ---------------------------------------------------------------- export


def export(
    options: GlobalOptions,
    conversation: str,
    path: Path | None,
    replace: bool,
    as_json: bool,
    left_out: ExportOptions,
) -> None:
    """Writes a conversation to a `.ctxmem` file; without a path, to one named after its id."""

    async def work(memory: Memory) -> tuple[Path, TransferResult, Mapping[str, Any]]:
        found = await resolve_conversation(memory, conversation)
        suffix = conversation_file.SUFFIX + (encryption.SUFFIX if left_out.is_encrypted else "")
        to = path or Path(f"{found.replace(':', '-')}{suffix}")
        return to, *await conversation_file.export_file(memory, found, to, replace=replace, options=left_out)

    to, done, origin = with_memory(options, work)
    record(options, "export", conversation=done.conversation_id)
    if as_json:
        output.print_json({"file": str(to), **asdict(done), "origin": origin})
        return
    _print_line(f"{to}: {output.counted(done.new, 'turn')} of {done.conversation_id}.")
    if left_out.redact_secrets or left_out.until:
        for sentence in conversation_file.describe_origin(origin):
            _print_line(f"  {sentence}")


def export_options(
    options: GlobalOptions,
    until: str | None,
    redact: str | None,
    author: str | None,
    encrypt: bool,
    recipients: Sequence[str],
) -> ExportOptions:
    """Returns the options of an export; asks for the passphrase, if one is needed."""
    is_encrypted = encrypt or bool(recipients)
    if is_encrypted:
        encryption.load_pyrage()
    needs_passphrase = is_encrypted and not recipients
    passphrase = get_passphrase(options.settings(), confirm=True) if needs_passphrase else None
    name = author or f"{getpass.getuser()}@{platform.node()}"
    return ExportOptions(until, redact is not None, name, is_encrypted, recipients, passphrase)


# ---------------------------------------------------------------- backup


def back_up(
    options: GlobalOptions,
    folder: Path,
    keep_forgotten: bool,
    as_json: bool,
    principal: str | None = None,
    space: str | None = None,
) -> int:
    """Backs up the data folder, or the memory of one principal or shared space.

    Returns:
        The exit code: 1 if a file could not be backed up.
    """
    from ctxmem_mcp.backup import backup, check_folders

    options.require_files("Back up the database with pg_dump; see docs/postgresql.md.")
    tenant = _tenant_folder(options, principal, space)
    data_dir = tenant or options.settings().data_dir
    check_folders(data_dir, folder)
    if tenant is not None:
        # Its events and expiry are its server's.
        done = asyncio.run(backup(data_dir, folder, keep_forgotten=keep_forgotten))
        record(options, "backup", space=space, target=principal)
        return _print_backup(done, folder, as_json)

    async def work(_: Memory) -> BackupResult:
        return await backup(data_dir, folder, keep_forgotten=keep_forgotten)

    done = with_memory(options, work)
    record(options, "backup")
    return _print_backup(done, folder, as_json)


def _tenant_folder(options: GlobalOptions, principal: str | None, space: str | None) -> Path | None:
    """Returns the folder of a principal or a shared space; None if neither is named."""
    if principal is not None and space is not None:
        raise InvalidArgument("--space", "can't be combined with --principal", "Back up one after the other.")
    if principal is None and space is None:
        return None
    from ctxmem_mcp.team import folders

    return asyncio.run(folders.find_folder(options.settings().data_dir, principal, space))


def _print_backup(done: BackupResult, folder: Path, as_json: bool) -> int:
    if as_json:
        output.print_json(asdict(done))
    else:
        removed = f"{len(done.kept):,} forgotten kept" if done.kept else f"{len(done.removed):,} forgotten removed"
        written = output.counted(len(done.written), "conversation")
        _print_line(f"{folder}: {written} written and verified, {len(done.unchanged):,} unchanged, {removed}.")
    for path, reason in done.failed.items():
        sys.stderr.write(f"ctxmem-mcp: {path}: {reason}\n")
    return 1 if done.failed else 0
