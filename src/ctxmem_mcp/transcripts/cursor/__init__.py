from ctxmem_mcp.transcripts.cursor.parser import looks_like, parse

__all__ = ["looks_like", "parse"]
