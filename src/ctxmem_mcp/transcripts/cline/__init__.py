from ctxmem_mcp.transcripts.cline.parser import looks_like, parse

__all__ = ["looks_like", "parse"]
