"""The HTTP service: one Starlette app with MCP, the seed systems' own APIs and what an operator needs."""
