from ctxmem_mcp.transcripts.claude_code.parser import begun, grown, looks_like, parse

__all__ = ["begun", "grown", "looks_like", "parse"]
