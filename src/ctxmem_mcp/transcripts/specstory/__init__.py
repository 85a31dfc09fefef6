from ctxmem_mcp.transcripts.specstory.parser import looks_like, parse

__all__ = ["looks_like", "parse"]
