"""`ctxmem-mcp wrap`: runs an agent with the gateway before its model's API, for this run only.

programs          how each agent is directed to the gateway
supervisor        owns the gateway's socket, starts the gateway, and replaces it if it ends
gateway_process   the gateway as a process of its own
forwarder         forwards requests without memory, if the gateway can't run
child             the agent's process: its terminal, its signals, its exit code
report            the lines about compaction
run               all of it
"""
