"""What `import` does with files that are not, or not quite, transcripts."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.test_commands import EXAMPLE, Ran, run

__all__ = ["run"]

ROW = {"type": "user", "uuid": "u", "sessionId": "s1", "message": {"role": "user", "content": "naïve café"}}
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(900)).decode()
LINE = json.dumps(ROW, ensure_ascii=False) + "\n"


def zipped(text: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("s1.jsonl", text)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "raw", "answer"),
    [
        ("s1.jsonl.gz", gzip.compress(LINE.encode())[:-9], "can't be unpacked"),
        ("export.zip", zipped(LINE)[:40], "can't be unpacked"),
        ("export.zip", zipped('{"no": "transcript"}'), "contains no transcript"),
        ("s1.jsonl", b"", "is empty"),
        ("s1.jsonl", b"\n\n", "is empty"),
        ("notes.txt", b"Some notes of mine.\n", "is in none of the known formats"),
        ("s1.jsonl", json.dumps({"type": "mode", "sessionId": "s1"}).encode(), "holds no turns"),
        ("s1.jsonl", b'{"type": "mode", "sessionId": "s1"}\n{"type": "us', "line 2: skipped, not valid JSON"),
        ("s1.jsonl", LINE.replace('"content"', '"blocks"').encode(), "holds no turns"),
    ],
    ids=["gz", "zip", "empty-zip", "empty", "blank", "notes", "no-words-yet", "torn", "unknown-fields"],
)
def test_a_named_file_that_yields_nothing_is_an_error(
    run: Callable[..., Ran], tmp_path: Path, name: str, raw: bytes, answer: str
) -> None:
    file = tmp_path / name
    file.write_bytes(raw)
    done = run("import", str(file))
    assert (done.code, answer in done.err) == (1, True), done
    assert run("import", str(file), str(EXAMPLE)).code == 1
    assert len(run("list", "--json").json) == 1


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("s1.jsonl", LINE.encode("utf-16")),
        ("s1.jsonl", b"\xef\xbb\xbf\xef\xbb\xbf" + LINE.encode()),
        ("s1.txt", LINE.encode()),
        ("s1.jsonl.bak", LINE.encode()),
        ("s1.jsonl.gz", gzip.compress(LINE.encode())),
        ("s1.jsonl", gzip.compress(LINE.encode())),
        ("export.zip", zipped(LINE)),
    ],
    ids=["utf-16", "two-boms", "txt", "bak", "gz", "gz-as-jsonl", "zip"],
)
def test_a_transcript_in_another_encoding_or_under_another_suffix_is_read(
    run: Callable[..., Ran], tmp_path: Path, name: str, raw: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(raw)
    assert run("import", str(file), "--json").json[0]["conversation_id"] == "s1"
    assert "naïve café" in run("show", "s1").out or "naïve café" in run("context", "s1").out


def test_a_dry_run_shows_what_would_be_imported_and_stores_nothing(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "s1.jsonl").write_text(LINE, "utf-8")
    done = run("import", str(tmp_path / "s1.jsonl"), "--dry-run")
    assert done.out.splitlines()[0].split("  ")[:3] == ["claude-code", "1 turn", "naïve café"]
    assert "Would import 1 conversation: 1 turn." in done.out
    (record,) = run("import", str(tmp_path / "s1.jsonl"), "--dry-run", "--json").json
    assert (record["agent"], record["session_id"], record["branches"]) == ("claude-code", "s1", 1)
    assert run("list", "--json").json == []
    assert run("import", str(tmp_path / "gone"), "--dry-run").code == 1


def test_a_folder_counts_the_files_it_did_not_know_by_kind(run: Callable[..., Ran], tmp_path: Path) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    (folder / "s1.jsonl").write_text(LINE, "utf-8")
    for name in ("a.json", "b.json", "c.jsonl", "d.zip", "README"):
        (folder / name).write_text('{"no": "transcript"}', "utf-8")
    done = run("import", str(folder))
    counts = (
        "2 .json (fields no) in no known format, 1 .jsonl (fields no) in no known format, "
        "1 .zip in no known format, 1 without a suffix"
    )
    assert (done.code, f"not imported: {counts}" in done.err) == (0, True), done.err
    assert len(run("import", str(folder), "--json").json) == 1


def test_a_database_without_conversations_says_so(run: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "opencode.db"
    with closing(sqlite3.connect(file)) as store:
        store.executescript(
            "CREATE TABLE session (id, time_created); CREATE TABLE message (id); CREATE TABLE part (id);"
        )
    done = run("import", str(file))
    assert (done.code, f"{file} is a database that holds no turns: nobody speaks in it yet." in done.err) == (1, True)


def test_unknown_files_are_named_by_the_program_that_they_seem_to_be_of(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    files = {
        ".continue/sessions/new.json": '{"format": 9}',
        ".codeium/windsurf/cascade/1.pb": "\0",
        "notes/a.jsonl": '{"kind": "step", "\\u001b[2J": 1, "words": "Hi"}',
        "notes/b.json": "[" * 9_000,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    done = run("import", str(tmp_path), "--dry-run")
    assert "1 .json from the folder of Continue's sessions in no known format" in done.err
    assert "1 .jsonl (fields kind, ..., words) in no known format" in done.err
    assert "1 .json in no known format" in done.err
    assert "1 .pb of Windsurf (encrypted)" in done.err


def test_neither_a_picture_nor_host_text_is_a_title(run: Callable[..., Ran], tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PICTURE}}
    rows = [
        {"role": "user", "content": [picture]},
        {"role": "user", "content": "<command-name>/clear</command-name> <command-message>clear</command-message>"},
        {"role": "user", "content": "/mode"},
        {"role": "user", "content": "What is wrong in this picture?"},
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (done,) = run("import", str(tmp_path / "s.jsonl"), "--json").json
    assert done["title"] == "What is wrong in this picture?"


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("name", ["pipe", "pipe.jsonl", "pipe.ctxmem", "null"])
def test_a_named_pipe_or_device_is_refused(run: Callable[..., Ran], tmp_path: Path, name: str) -> None:
    path = Path(os.devnull) if name == "null" else tmp_path / name
    if name != "null":
        os.mkfifo(path)
    done = run("import", str(path))
    assert done.code != 0
    assert f"PATH {path}: is neither a file nor a folder" in done.err
    assert "Save its content to a file" in done.err
