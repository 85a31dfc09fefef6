"""Searches files for texts that were removed, as they are and as JSON and HTML write them."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ctxmem_mcp.patterns import lazy_regex

# A shorter text, such as "yes", is in many files by chance; one that somebody named may be a little shorter.
CHARS_MIN, NAMED_CHARS_MIN = 8, 4
# Of a text in several lines, so many of the longest are searched for too: a program may store them one by one.
LINES_MAX = 4
LINE_CHARS_MIN = 24
# A password or a key is at least so long; so many of a turn's are searched for.
KEY_CHARS_MIN, WORDS_MAX = 10, 20
_AROUND_WORDS = ".,;:!?()[]{}<>'\"`"
_KINDS = (lazy_regex("[a-z]"), lazy_regex("[A-Z]"), lazy_regex("[0-9]"))
# Files are read in another process: closing a database's file in this one would drop SQLite's locks on it.
_SEARCH = """
import json, os, sys
folder, skipped, needles = json.load(sys.stdin)
needles = [bytes.fromhex(needle) for needle in needles]
files, found = 0, []
for root, folders, names in os.walk(folder):
    if root == folder:
        folders[:] = [name for name in folders if name not in skipped]
    for name in names:
        path = os.path.join(root, name)
        try:
            if not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                raw = file.read()
        except OSError:
            continue
        files += 1
        if any(needle in raw for needle in needles):
            found.append(path)
print(json.dumps([files, found]))
"""


class Texts:
    """Texts to search for."""

    def __init__(self, texts: Iterable[str], named: Iterable[str] = ()) -> None:
        """Those that are too short to be distinct are left out.

        Args:
            texts: Texts that were removed.
            named: Parts of them for which somebody has searched.
        """
        parts = {part: None for text in texts for part in _parts(text) if len(part) >= CHARS_MIN}
        parts |= {part: None for part in named if len(part) >= NAMED_CHARS_MIN}
        self.parts: Sequence[str] = list(parts)
        self._needles = list({needle: None for part in self.parts for needle in _encodings(part)})

    def are_in(self, raw: bytes) -> bool:
        """Returns whether one of them is in these bytes."""
        return any(needle in raw for needle in self._needles)

    def search_files(self, folder: Path, skipped: Sequence[str] = ()) -> tuple[int, list[str]]:
        """Searches every file below a folder, byte by byte.

        Args:
            folder: The folder.
            skipped: Names of folders in it that are not searched.

        Returns:
            How many files were searched, and the paths of those that hold a text.

        Raises:
            OSError: They could not be searched.
        """
        asked = json.dumps([str(folder), list(skipped), [needle.hex() for needle in self._needles]])
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", _SEARCH], input=asked, capture_output=True, check=True, text=True
            )
            files, found = json.loads(done.stdout)
        except (subprocess.CalledProcessError, ValueError) as error:
            raise OSError(f"the search failed: {error}") from error
        return files, found


def words_like_keys(text: str) -> list[str]:
    """Returns the words of a text that look like passwords or keys: long, with letters of both cases and digits."""
    words = (word.strip(_AROUND_WORDS) for word in text.split())
    found = {word: None for word in words if len(word) >= KEY_CHARS_MIN and all(kind.search(word) for kind in _KINDS)}
    return list(found)[:WORDS_MAX]


def _parts(text: str) -> Iterable[str]:
    yield text.strip()
    lines = {line.strip(): None for line in text.splitlines() if len(line.strip()) >= LINE_CHARS_MIN}
    yield from sorted(lines, key=len, reverse=True)[:LINES_MAX]


def _encodings(text: str) -> Iterable[bytes]:
    yield text.encode("utf-8", "surrogatepass")
    for is_ascii in (False, True):
        yield json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode("utf-8", "surrogatepass")
    yield html.escape(text).encode("utf-8", "surrogatepass")
