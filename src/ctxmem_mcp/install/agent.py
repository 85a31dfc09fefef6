"""An agent as the installer sees it: its files, and how they are edited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.agents import AgentInfo
from ctxmem_mcp.install.config_edits import ConfigEdit
from ctxmem_mcp.install.host_paths import HostPaths


def _no_edits(host: HostPaths) -> Sequence[ConfigEdit]:
    return ()


@dataclass(frozen=True, slots=True)
class Agent:
    """How the server and its hooks are registered with one agent.

    Attributes:
        info: the agent's entry in the table of agents.
        markers: folders and files; the agent is installed if one of them exists.
        servers: the edits that register the server for the user.
        hooks: the edits that register the hooks for the user.
        project_servers: like `servers`, for the project.
        project_hooks: like `hooks`, for the project.
        foreign_servers: places that only other programs write. They are inspected, never edited.
        foreign_removal_command: the command that removes our server from those places.
        after: what the user does next, and then sees.
        after_hooks: the same for the hooks.
    """

    info: AgentInfo
    markers: Callable[[HostPaths], Sequence[Path]]
    servers: Callable[[HostPaths], Sequence[ConfigEdit]]
    hooks: Callable[[HostPaths], Sequence[ConfigEdit]] = _no_edits
    project_servers: Callable[[HostPaths], Sequence[ConfigEdit]] = _no_edits
    project_hooks: Callable[[HostPaths], Sequence[ConfigEdit]] = _no_edits
    foreign_servers: Callable[[HostPaths], Sequence[ConfigEdit]] = _no_edits
    foreign_removal_command: str = ""
    after: str = ""
    after_hooks: str = ""

    @property
    def name(self) -> str:
        return self.info.id

    @property
    def title(self) -> str:
        return self.info.title

    @property
    def has_hooks(self) -> bool:
        """Whether `install` registers hooks."""
        return self.hooks is not _no_edits

    def is_present(self, host: HostPaths) -> bool:
        """Whether the agent is installed."""
        return any(marker.exists() for marker in self.markers(host))

    def edits(self, host: HostPaths, *, project: bool) -> list[ConfigEdit]:
        """Returns the edits for the servers, then those for the hooks, of the user's files or of the project's."""
        if project:
            return [*self.project_servers(host), *self.project_hooks(host)]
        return [*self.servers(host), *self.hooks(host)]

    def next_steps(self, edits: Sequence[ConfigEdit]) -> str:
        """Returns what to tell the user once these edits are made."""
        with_hooks = any(edit.role == "hooks" for edit in edits)
        return f"{self.after} {self.after_hooks}" if with_hooks else self.after
