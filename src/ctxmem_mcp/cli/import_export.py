"""What `import` needs beside the importing itself: reading many files, a progress bar, telling what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctxmem_mcp.capture import importer
from ctxmem_mcp.cli import output
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.transcripts.base import Transcript
from ctxmem_mcp.transfer import TransferResult


def as_imported(path: Path, done: TransferResult) -> importer.Imported:
    """What a carried conversation gave, told like any import."""
    known = done.turns - done.new
    return importer.Imported(str(path), "ctxmem", done.conversation_id, done.turns, known, done.new, done.head)


def read(files: list[Path], named: set[Path]) -> tuple[list[tuple[Path, Transcript]], list[str]]:
    """Transcripts of the files that are some; of the others that were named, why not."""
    read: list[tuple[Path, Transcript]] = []
    refused: list[str] = []
    for file in files:
        try:
            read.append((file, importer.read(file)))
        except InvalidArgument as error:
            if file in named:
                refused.append(str(error))
        except OSError as error:
            refused.append(f"{file} can't be read: {error.strerror}.")
    return read, refused


def progress(total: int, quiet: bool) -> Any:
    """A bar on stderr where a person watches; gives the function that moves it on."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar() -> Any:
        err = Console(stderr=True)
        columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as progress:
            task = progress.add_task("turns", total=total)
            yield lambda count: progress.advance(task, count)

    return bar()


def tell(done: list[importer.Imported]) -> None:
    out = output.console()
    for imported in done:
        added = output.counted(imported.new, "new turn")
        out.print(f"{imported.conversation_id}  {imported.agent}, {added}, {imported.known:,} known")
        for warning in imported.warnings[:5]:
            out.print(f"  {warning}", style="yellow", markup=False)
        if len(imported.warnings) > 5:
            out.print(f"  ... and {len(imported.warnings) - 5} more.", style="yellow")
    new, known = sum(imported.new for imported in done), sum(imported.known for imported in done)
    total = f"{output.counted(len(done), 'conversation')}: {output.counted(new, 'new turn')}"
    out.print(f"{total}, {known:,} known already.")
