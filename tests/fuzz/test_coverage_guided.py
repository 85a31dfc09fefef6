"""Coverage-guided inputs, by atheris, to the parsers of transcripts and to the tools' arguments.

Each runs `CTXMEM_FUZZ_SECONDS` in a process of its own, because libFuzzer ends the process it runs in.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.guided import TARGETS, write_seeds
from tests.stores.writer_process import ROOT

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(0),
    pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="pip install atheris (Linux, macOS)"),
]


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_that_coverage_finds_fails(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds, corpus = os.environ.get("CTXMEM_FUZZ_SECONDS", "600"), tmp_path / "corpus"
    write_seeds(target, corpus)
    limits = (
        f"-max_total_time={seconds}",
        "-timeout=60",
        "-rss_limit_mb=2048",
        "-max_len=20000",
        "-print_final_stats=1",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", target, *limits, str(corpus)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        errors="replace",
    )
    count = re.search(r"number_of_executed_units: (\d+)", ran.stderr)
    with capsys.disabled():
        sys.stdout.write(f"\n{target}: {int(count[1]) if count else 0:,} inputs\n")
    assert ran.returncode == 0, ran.stdout[-5_000:] + ran.stderr[-5_000:]
