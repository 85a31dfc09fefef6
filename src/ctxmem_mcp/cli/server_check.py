"""What `doctor` reports of servers that start slowly or hang: each command once, however many agents have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ctxmem_mcp.install.config_edits import FoundEntry
from ctxmem_mcp.install.inspect import AgentReport, Fault, RegisteredServer
from ctxmem_mcp.install.probe import ProbeResult, probe_server

SLOW_SECONDS = 5.0


class CachedProbe:
    """Starts each server once, also if several agents have it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """environment: that of the agents."""
        self._environment = environment
        self._results: dict[tuple[object, ...], ProbeResult] = {}

    def __call__(self, entry: FoundEntry) -> ProbeResult:
        key = (entry.command, *sorted(entry.environment.items()))
        if key not in self._results:
            self._results[key] = probe_server(entry.command, {**self._environment, **entry.environment})
        return self._results[key]


def hang_faults(reports: Iterable[AgentReport]) -> list[Fault]:
    """Returns a fault for each command that did not respond in time. Installing it again would not change that."""
    return [
        Fault(
            f"`{command}` {servers[0].probe.fault} ({', '.join(str(path) for path in _paths(servers))})",
            "Run it in a terminal to see what it waits for; on a busy machine, run `ctxmem-mcp doctor` again later.",
        )
        for command, servers in _by_command(reports).items()
        if servers[0].probe.timed_out
    ]


def slow_starts(reports: Iterable[AgentReport]) -> list[str]:
    """Returns a remark for each command that responded late."""
    return [
        f"slow: {servers[0].probe.seconds:.0f} s until `{command}` responded; the machine may be busy"
        for command, servers in _by_command(reports).items()
        if servers[0].probe.seconds >= SLOW_SECONDS
    ]


def _by_command(reports: Iterable[AgentReport]) -> dict[str, list[RegisteredServer]]:
    found: dict[str, list[RegisteredServer]] = {}
    for report in reports:
        for server in report.servers:
            found.setdefault(" ".join(server.entry.command), []).append(server)
    # The slowest start first: the same command may have been started with several environments.
    return {
        name: sorted(servers, key=lambda one: (not one.probe.timed_out, -one.probe.seconds))
        for name, servers in found.items()
    }


def _paths(servers: Iterable[RegisteredServer]) -> list[Path]:
    return sorted({server.path for server in servers if server.probe.timed_out})
