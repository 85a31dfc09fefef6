"""One setting: its default, accepted values and help, and how its value is parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.settings.kinds import BrokenRule, Kind, integer

# The sections of docs/settings.md, in its order.
MEMORY, SERVER, HTTP, MODEL, GATEWAY = "Memory", "Server", "HTTP service", "Summaries by a model", "Gateway"
SECONDS = integer(1, 3_600)
PLATFORM_FOLDER = "the platform's data folder"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. flag: its flag on the command line, if it has one."""

    section: str
    kind: Kind
    help: str
    flag: str = ""
    name: str = ""
    default: Any = None

    @property
    def environment(self) -> str:
        return environment_name(self.name)

    @property
    def default_text(self) -> str:
        """The default in words; "" if the setting is unset by default."""
        return PLATFORM_FOLDER if self.name == "data_dir" else "" if self.default is None else str(self.default)

    def parse(self, value: object, source: str) -> Any:
        """Returns the value in the setting's type.

        Args:
            source: where the value was given, as the user spelled it: `--port`, `CTXMEM_HTTP_PORT`.

        Raises:
            InvalidArgument: names the source, the rule and the remedy.
        """
        try:
            return self.kind.parse(value)
        except BrokenRule as error:
            raise InvalidArgument(source, error.rule, error.remedy) from error
        except ValueError as error:
            got = "" if self.kind.secret else f"; got {value!r}"
            remedy = f"Leave it out for {self.default_text}." if self.default_text else "Leave it out if not needed."
            raise InvalidArgument(source, f"must be {self.kind.accepts}{got}", remedy) from error


def environment_name(name: str) -> str:
    """Returns the environment variable of a setting."""
    return f"CTXMEM_{name.upper()}"
