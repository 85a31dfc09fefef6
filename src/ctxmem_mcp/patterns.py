"""Regular expressions that are compiled at their first use.

The start of an agent's session imported 283 of them, which took 158 ms of processor time; 170 were not used.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast

_FIELDS = tuple(name for name in dir(re.Pattern) if not name.startswith("_"))


class _LazyPattern:
    """Compiles an expression when an attribute is read, and then has all attributes of the compiled one."""

    def __init__(self, pattern: Any, flags: int) -> None:
        self._source = pattern, flags

    def __getattr__(self, name: str) -> Any:
        if name not in _FIELDS:
            raise AttributeError(name)
        if name == "pattern":  # larger expressions are made of it, at import
            return self._source[0]
        compiled = re.compile(*self._source)
        # Bound methods as attributes of its own: a later use costs no more than with the compiled expression.
        self.__dict__.update({field: getattr(compiled, field) for field in _FIELDS})
        return getattr(compiled, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return lazy_regex, self._source


def lazy_regex(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Returns an expression with the methods of a compiled one, which is compiled at their first use.

    The functions of `re` don't accept it: call its methods.

    Args:
        pattern: the expression. An invalid one raises `re.error` at its first use.
        flags: those of `re.compile`.
    """
    return cast("re.Pattern[AnyStr]", _LazyPattern(pattern, flags))
