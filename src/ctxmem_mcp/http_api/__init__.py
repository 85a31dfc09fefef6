"""The HTTP service: one Starlette app with MCP, the APIs of NanoGPT and Tensorheart, the gateway and operations."""
