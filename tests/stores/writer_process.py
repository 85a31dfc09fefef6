"""Starts the writer in processes of its own and reads its output."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Process = subprocess.Popen[str]


@contextmanager
def writers(data: Path, *arguments: Sequence[object]) -> Iterator[list[Process]]:
    """Starts one process for each (conversation id, seed, count, ...). They begin to write together."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.stores.writer", str(data), *map(str, each)],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for each in arguments
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdin is not None
            line = process.stdout.readline()
            if line != "ready\n":
                raise AssertionError(line + process.communicate()[1])
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def acknowledged(process: Process) -> dict[str, str]:
    """The ids and texts of the turns that were acknowledged to the process. It must have ended with success."""
    out, err = process.communicate(timeout=60)
    assert not err, err
    assert process.returncode == 0
    return turns_in(out)


def turns_in(out: str) -> dict[str, str]:
    """The turns in a writer's output. Only whole lines count: the last one of a killed process may be cut off."""
    lines = [line[:-1] for line in out.splitlines(keepends=True) if line.endswith("\n")]
    return dict(line.split(" ", 1) for line in lines if line.startswith("t"))
