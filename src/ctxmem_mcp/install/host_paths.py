"""Where programs keep their files on each system."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ctxmem_mcp.capture.locations import app_data
from ctxmem_mcp.install.server_entry import System

_DOCUMENTS = re.compile(r'^XDG_DOCUMENTS_DIR="((?:\$HOME)?/[^"\n]*)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class HostPaths:
    """A user's machine: its system, the home folder, the environment, and the project that one stands in."""

    system: System
    home: Path
    project: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def env_path(self, variable: str) -> Path | None:
        """The folder or file that an environment variable names."""
        given = self.environ.get(variable, "").strip()
        return Path(given).expanduser() if given else None

    @property
    def config(self) -> Path:
        """Where programs with a window keep theirs."""
        return app_data(self.system, self.home, self.environ)

    @property
    def local(self) -> Path:
        """Windows only: what does not move to other machines."""
        return self.env_path("LOCALAPPDATA") or self.home / "AppData" / "Local"

    @property
    def documents(self) -> Path:
        """On Linux it has a name in the user's language, which the desktop keeps in a file."""
        usual = self.home / "Documents"
        if self.system != "linux":
            return usual
        try:
            named = _DOCUMENTS.search((self.config / "user-dirs.dirs").read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            return usual
        return Path(named[1].replace("$HOME", str(self.home))) if named else usual


SYSTEMS: Mapping[str, System] = {"linux": "linux", "darwin": "macos", "win32": "windows"}


def system_of(platform: str) -> System:
    """The system that Python's sys.platform names; what is neither macOS nor Windows has Linux's folders."""
    return SYSTEMS.get(platform, "linux")
