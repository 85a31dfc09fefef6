"""The text in a transcript's bytes, whatever encoding the program or shell that wrote it used."""

from __future__ import annotations

import codecs
from pathlib import PurePath

from ctxmem_mcp.errors import InvalidArgument

_ZSTANDARD, _SQLITE = b"\x28\xb5\x2f\xfd", b"SQLite format 3\0"
# The first bytes of files that hold transcripts packed, what they are, and what to do.
_PACKED = {
    _ZSTANDARD: ("is compressed with Zstandard", "Unpack it first: unzstd {name}"),
    _SQLITE: ("is a database of a program whose databases are not read", "Export the conversations as JSON."),
}
_BOM = "\ufeff"


def check_not_packed(raw: bytes, name: str) -> None:
    """Raises InvalidArgument for a file compressed with Zstandard or a database."""
    for start, (what, remedy) in _PACKED.items():
        if raw.startswith(start):
            raise InvalidArgument(f"file {name}", what, remedy.format(name=PurePath(name).name))


def decode(raw: bytes) -> tuple[str, tuple[str, ...]]:
    """Returns a file's text without byte order marks, and a warning if it was not UTF-8.

    UTF-16 with a byte order mark is read, as Windows' PowerShell writes it. Bytes that are not valid UTF-8 become
    U+FFFD.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace").lstrip(_BOM), ("the file is in UTF-16; it was read as that",)
    try:
        return raw.decode().lstrip(_BOM), ()
    except UnicodeDecodeError as error:
        warning = f"byte {error.start}: not valid UTF-8, replaced by U+FFFD"
        return raw.decode("utf-8", "replace").lstrip(_BOM), (warning,)
