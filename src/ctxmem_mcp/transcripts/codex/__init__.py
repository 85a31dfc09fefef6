from ctxmem_mcp.transcripts.codex.parser import looks_like, parse

__all__ = ["looks_like", "parse"]
