"""The whole contract as one class of tests."""

from __future__ import annotations

from ctxmem_mcp.stores.testing.commit_tests import CommitTests, TurnTests
from ctxmem_mcp.stores.testing.index_tests import PieceTests, TermTests
from ctxmem_mcp.stores.testing.lifecycle_tests import ForgettingTests, UnknownTests
from ctxmem_mcp.stores.testing.listing_tests import ListingTests
from ctxmem_mcp.stores.testing.model_call_tests import ModelCallTests
from ctxmem_mcp.stores.testing.node_tests import NodeTests


class StoreContract(
    CommitTests,
    TurnTests,
    NodeTests,
    PieceTests,
    TermTests,
    UnknownTests,
    ForgettingTests,
    ListingTests,
    ModelCallTests,
):
    """Tests of every operation and every error of `ctxmem_mcp.stores.base.Store`.

    Subclass it under a name that pytest collects, and override the fixture `store` with one that yields an empty,
    open store and closes it.
    """
