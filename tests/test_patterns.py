import gc
import importlib
import pickle
import pkgutil
import re
from contextlib import suppress

import pytest

import ctxmem_mcp
from ctxmem_mcp import patterns
from ctxmem_mcp.patterns import lazy_regex


def test_it_has_all_attributes_of_a_compiled_expression() -> None:
    lazy, compiled = lazy_regex(r"(?P<word>\w)\d", re.IGNORECASE), re.compile(r"(?P<word>\w)\d", re.IGNORECASE)
    text = "a1 B2 c"
    assert lazy.sub("-", text) == compiled.sub("-", text)
    assert lazy.findall(text) == compiled.findall(text)
    assert lazy.split(text) == compiled.split(text)
    assert [found.span() for found in lazy.finditer(text, 1)] == [found.span() for found in compiled.finditer(text, 1)]
    assert lazy.match(text)
    assert lazy.search(text)
    assert not lazy.fullmatch(text)
    assert (lazy.pattern, lazy.flags, lazy.groups) == (compiled.pattern, compiled.flags, compiled.groups)
    assert dict(lazy.groupindex) == {"word": 1}
    assert pickle.loads(pickle.dumps(lazy)).sub("-", text) == compiled.sub("-", text)
    assert lazy_regex(b"a").search(b"cab")


def test_an_invalid_expression_fails_at_its_first_use_and_an_unknown_attribute_at_once() -> None:
    lazy = lazy_regex("(")
    with pytest.raises(re.error):
        lazy.search("")
    with pytest.raises(AttributeError):
        _ = lazy.serach  # type: ignore[attr-defined]


def test_all_expressions_of_all_modules_are_valid() -> None:
    for module in pkgutil.walk_packages(ctxmem_mcp.__path__, "ctxmem_mcp."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # an optional package is missing
                importlib.import_module(module.name)
    found = [one for one in gc.get_objects() if isinstance(one, patterns._LazyPattern)]
    assert len(found) > 300
    for one in found:
        if one._source[0] != "(":
            assert one.pattern == one._source[0]
