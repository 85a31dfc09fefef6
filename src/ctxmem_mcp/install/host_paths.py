"""The folders in which programs keep their files, on each system."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ctxmem_mcp.capture.locations import app_data
from ctxmem_mcp.home_folder import expand_user
from ctxmem_mcp.install.server_entry import System
from ctxmem_mcp.patterns import lazy_regex

_DOCUMENTS = lazy_regex(r'^XDG_DOCUMENTS_DIR="((?:\$HOME)?/[^"\n]*)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class HostPaths:
    """The paths that matter on a user's machine.

    Attributes:
        system: the operating system.
        home: the user's home folder.
        project: the current folder, taken for the project's.
        environ: the environment variables.
        shortens_outputs: hooks are to shorten tools' outputs.
    """

    system: System
    home: Path
    project: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    shortens_outputs: bool = False

    def env_path(self, variable: str) -> Path | None:
        """Returns the folder or file that an environment variable names; None if it is unset or empty."""
        given = self.environ.get(variable, "").strip()
        return Path(expand_user(given)) if given else None

    @property
    def config(self) -> Path:
        """The folder in which desktop programs keep their data."""
        return app_data(self.system, self.home, self.environ)

    @property
    def local(self) -> Path:
        """On Windows, the folder for data that is not copied to the user's other machines."""
        return self.env_path("LOCALAPPDATA") or self.home / "AppData" / "Local"

    @property
    def documents(self) -> Path:
        """The documents folder. On Linux its name is in the user's language, and the desktop keeps it in a file."""
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
    """Returns the system for Python's sys.platform. Systems other than macOS and Windows use Linux's folders."""
    return SYSTEMS.get(platform, "linux")
