from ctxmem_mcp.transcripts.claude_code.parser import looks_like, parse, parse_resumable, resume

__all__ = ["looks_like", "parse", "parse_resumable", "resume"]
