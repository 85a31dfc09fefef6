"""A pytest suite for the store contract. Run it against a store of your own:

    import pytest

    from ctxmem_mcp.stores.testing import StoreContract
    from my_package import MyStore


    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self, tmp_path):
            store = MyStore(tmp_path)
            yield store
            await store.close()

It needs pytest; the coroutines are run by anyio's plugin, which is installed with ctxmem-mcp. `builders` makes states
and commits for further tests. Nothing else in ctxmem_mcp imports this package.
"""

from __future__ import annotations

import pytest

# Before they are imported, so that a failed assertion shows the values it compared.
_SUBJECTS = ("commit", "node", "index", "lifecycle", "listing", "model_call")
pytest.register_assert_rewrite(f"{__name__}.fixtures", *(f"{__name__}.{subject}_tests" for subject in _SUBJECTS))

from ctxmem_mcp.stores.testing.contract import StoreContract  # noqa: E402

__all__ = ["StoreContract"]
