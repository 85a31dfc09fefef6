"""Starts the writer as a process of its own and hears what it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Process = subprocess.Popen[str]


@contextmanager
def writers(data: Path, *told: Sequence[object]) -> Iterator[list[Process]]:
    """One process for each (conversation id, seed, how many, ...); they begin together."""
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
        for each in told
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdin is not None
            said = process.stdout.readline()
            if said != "ready\n":
                raise AssertionError(said + process.communicate()[1])
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
    """Turn ids and texts the process was told are kept, once it has ended well."""
    out, err = process.communicate(timeout=60)
    assert not err, err
    assert process.returncode == 0
    return turns_in(out)


def turns_in(out: str) -> dict[str, str]:
    """Whole lines only: the last one of a killed process may be torn."""
    lines = [line[:-1] for line in out.splitlines(keepends=True) if line.endswith("\n")]
    return dict(line.split(" ", 1) for line in lines if line.startswith("t"))
