"""Unpacks exports as they are downloaded: zip archives and files compressed with gzip."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from pathlib import PurePath

from ctxmem_mcp.errors import InvalidArgument

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# A small file may unpack to more than any machine's memory.
UNPACKED_BYTES_MAX = 2 * 1024**3
_SUFFIXES = (".json", ".jsonl")


def is_archive(raw: bytes) -> bool:
    """Returns whether these are the bytes of a zip archive or of a file compressed with gzip."""
    return raw.startswith((_GZIP, _ZIP))


def unpack(raw: bytes, name: str) -> list[tuple[str, bytes]]:
    """Returns the names and the bytes of the files in an archive that may be transcripts.

    Raises:
        InvalidArgument: the archive is damaged, encrypted, or unpacks to more than `UNPACKED_BYTES_MAX` bytes.
    """
    try:
        if raw.startswith(_GZIP):
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
                return [(name.removesuffix(".gz"), _limited(packed.read(UNPACKED_BYTES_MAX + 1), name))]
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = [member for member in archive.infolist() if PurePath(member.filename).suffix in _SUFFIXES]
            if sum(member.file_size for member in members) > UNPACKED_BYTES_MAX:
                raise _too_large(name)
            return [(PurePath(member.filename).name, archive.read(member)) for member in members]
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise InvalidArgument(
            f"file {name}", f"can't be unpacked ({error})", "Unpack it, and import its files."
        ) from error


def _limited(unpacked: bytes, name: str) -> bytes:
    if len(unpacked) > UNPACKED_BYTES_MAX:
        raise _too_large(name)
    return unpacked


def _too_large(name: str) -> InvalidArgument:
    rule = f"unpacks to more than {UNPACKED_BYTES_MAX // 1024**3} GB"
    return InvalidArgument(f"file {name}", rule, "Unpack it, and import its files one by one.")
