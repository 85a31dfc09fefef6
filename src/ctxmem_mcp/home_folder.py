"""The user's home folder, which a user in a container may not have. Imports nothing slow.

`os.path.expanduser` then returns a path that begins with `~`, and `Path.home` raises an error.
"""

from __future__ import annotations

import os

# Used as the home folder of a user without one. It contains nothing, and nothing can be created in it.
NO_HOME = os.path.join(os.sep, "nonexistent")


def has_home() -> bool:
    return not os.path.expanduser("~").startswith("~")


def home_folder() -> str:
    """Returns the home folder, or NO_HOME."""
    return os.path.expanduser("~") if has_home() else NO_HOME


def expand_user(path: str) -> str:
    """Replaces a leading `~` by the home folder, or by NO_HOME."""
    expanded = os.path.expanduser(path)
    return NO_HOME + expanded[1:] if expanded.split("/", 1)[0] == "~" else expanded
