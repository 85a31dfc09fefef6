"""The HTTP service: one Starlette app with MCP, the seed systems' APIs, the gateway and operations routes."""
