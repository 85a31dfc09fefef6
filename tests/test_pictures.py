"""The pictures of the README and the docs show the present program, and are small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"


def test_the_pictures_are_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "pictures.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_recording_is_small_and_asks_for_nothing() -> None:
    recording = (IMAGES / "recording.svg").read_text("utf-8")
    assert len(recording.encode()) < 300_000
    assert "://" not in recording.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in recording
    assert "promptkit.limits.LimitError: input exceeds the character limit" in recording
    assert all(path.stat().st_size < 300_000 for path in IMAGES.iterdir())
