"""Decoding compressed request bodies: Codex sends zstd with a ChatGPT login. Pure."""

from __future__ import annotations

import zlib

# zlib's window for gzip and zlib headers.
_ANY_HEADER = 47


def decoded(content: bytes, encoding: str, limit: int) -> bytes:
    """Returns a body without its content encoding; empty if it is none of zstd, gzip and deflate, or malformed.

    Args:
        content: the body.
        encoding: its Content-Encoding; empty for none.
        limit: the most bytes that it may have decoded.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return content
    if name == "zstd":
        return _zstd(content, limit)
    if name in ("gzip", "deflate"):
        decoder = zlib.decompressobj(_ANY_HEADER)
        try:
            plain = decoder.decompress(content, limit)
        except zlib.error:
            return b""
        return plain if decoder.eof else b""
    return b""


def _zstd(content: bytes, limit: int) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
            plain: bytes = reader.read(limit + 1)
    except zstandard.ZstdError:
        return b""
    return plain if len(plain) <= limit else b""
