"""Pictures and other data are stored byte for byte, and one line in all that is read."""

from __future__ import annotations

import base64
import json
import random

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.summarizers.llm import build_leaf_prompt
from ctxmem_mcp.text import media
from ctxmem_mcp.text.media import media_spans, shown_text

pytestmark = pytest.mark.anyio

RANDOM = random.Random(13)
BYTES = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + RANDOM.randbytes(200_000)
PICTURE = base64.b64encode(BYTES).decode()
LINE = "[picture: image/png, 200 kB]"
NUMBERS = [round(RANDOM.uniform(-1, 1), 6) for _ in range(1_536)]
WIDTHS = [RANDOM.randint(100, 299) for _ in range(80)]
UNEQUAL = "\n".join(PICTURE[10_000 + 300 * at :][:width] for at, width in enumerate(WIDTHS))
CONTENTS = {
    "a block of Anthropic's": (
        json.dumps({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}),
        LINE,
    ),
    "a block of OpenAI's": (
        json.dumps({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}),
        LINE,
    ),
    "a tool's result": (
        json.dumps([{"type": "text", "text": "Shot taken."}, {"data": PICTURE, "mimeType": "image/png"}]),
        f'[{{"type": "text", "text": "Shot taken."}}, {{"data": "{LINE}", "mimeType": "image/png"}}]',
    ),
    "Markdown": (f"Look: ![x](data:image/png;base64,{PICTURE}) there.", f"Look: ![x]({LINE}) there."),
    "lines": (
        f"screen.b64:\n{base64.encodebytes(BYTES).decode()}done",
        "screen.b64:\n[picture: image/png, 203 kB]\ndone",
    ),
    "unequal lines": (f"dump:\n{UNEQUAL}\nend", "dump:\n[data: base64, 12 kB]\nend"),
    "hexadecimal": (f"dump {BYTES[-20_000:].hex()} end", "dump [data: hex, 20 kB] end"),
    "minified script": (
        f"app.js:\n{'!function(e,t){var n=r(3);return n.map(a=>a.b+1)}(window,document);' * 200}\nend",
        "app.js:\n[data: minified code, 13 kB]\nend",
    ),
    "minified style": (
        "a.css\n" + ".a{color:red;margin:0;padding:1px 2px;}.b>p{top:0;left:1em;}" * 150,
        "a.css\n[data: minified code, 9.0 kB]",
    ),
    "numbers": (json.dumps({"embedding": NUMBERS}), '{"embedding": [data: 1,536 numbers]}'),
    "escaped": (json.dumps({"out": base64.encodebytes(BYTES).decode()}), '{"out": "[picture: image/png, 205 kB]"}'),
}


async def memory_with(content: str, role: str) -> Memory:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    call = "c1" if role == "tool" else None
    turns = [NewTurn("user", "Please look at the screenshot of the login page.")]
    turns += [NewTurn("assistant", '{"path": "/tmp/a.png"}', "Read", None, call)] if call else []
    await memory.sync([*turns, NewTurn(role, content, None, None, call)], conversation_id="c")  # type: ignore[arg-type]
    return memory


@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
@pytest.mark.parametrize("kind", CONTENTS)
async def test_data_is_one_line_everywhere_and_kept_byte_for_byte(kind: str, role: str) -> None:
    content, shown = CONTENTS[kind]
    line = shown_text(content)
    assert line == shown
    memory = await memory_with(content, role)
    head = await memory.head("c")
    assert head.content == content
    assert head.tokens < 60, "the line counts, not the data"
    texts = [
        (await memory.view("c", query="the screenshot", token_budget=4_000)).text,
        (await memory.view("c", layout="stable", token_budget=4_000)).text,
        (await memory.expand("c", head.id)).text,
        (await memory.expand("c", f"t0-{head.short}")).text,
        (await memory.hand_off("c")).text,
        *[hit.snippet for hit in await memory.search("screenshot picture data")],
        json.dumps([node.summary.title for node in await memory.outline("c")]),
        build_leaf_prompt([head]).user,
        (await memory.info("c")).title,
    ]
    for text in texts:
        assert not media_spans(text)
        assert len(text) < 2_000
    assert shown in texts[0]
    assert shown in texts[2]
    assert await memory.verify("c") == []


async def test_a_screenshot_leaves_room_for_what_people_wrote() -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    turns = [NewTurn("user", f"Please repair pump {i}.") for i in range(40)]
    turns.insert(20, NewTurn("user", CONTENTS["a block of Anthropic's"][0]))
    await memory.sync(turns, conversation_id="c")
    text = (await memory.view("c", query="what should I repair?", token_budget=2_000)).text
    assert all(f"pump {i}." in text for i in range(40))
    assert (await memory.info("c")).tokens < 1_000


@pytest.mark.parametrize(
    "text",
    [
        "word " * 4_000,
        "x" * 5_000,
        "-" * 2_000,
        "=" * 400 + "\n" + "." * 400,
        "\n".join(RANDOM.randbytes(32).hex() for _ in range(60)),
        "\n".join(f"{RANDOM.randbytes(20).hex()} refs/heads/branch{i}" for i in range(60)),
        "/".join(["usr", "lib", "python3", "site-packages"] * 30) + ".py",
        "1, 2, 3, " * 20,
        "a_long_name_of_a_function_" * 40,
        json.dumps([{"id": i, "name": f"file{i}.py", "size": i * 7} for i in range(400)], separators=(",", ":")),
        "function f(a) { return a + 1; }\n" * 400,
        json.dumps({"content": "def f(a):\n    return a + 1\n\n" * 400}),
        json.dumps({"port": 8080, "names": [f"file{i}.py" for i in range(200)]}),
        "日本語のテキストです。" * 300,
    ],
)
def test_what_people_read_is_no_data(text: str) -> None:
    assert media_spans(text) == ()
    assert shown_text(text) == text


def test_a_part_of_the_data_is_the_whole_line() -> None:
    content = CONTENTS["Markdown"][0]
    assert shown_text(content, 0, 5_000) == f"Look: ![x]({LINE}"
    assert shown_text(content, 5_000, 9_000) == LINE
    assert shown_text(content, len(content) - 8) == ") there."


def test_the_chunks_of_a_long_text_are_shown_without_searching_it_again_for_each() -> None:
    text = "\n".join(f"line {number} of a long log without any data" for number in range(30_000))
    media._last_spans.cache_clear()
    for at in range(0, len(text), 1_000):
        media.shown_text(text, at, at + 1_000)
    assert media._last_spans.cache_info().misses == 1


@pytest.mark.parametrize("size", [60, 219, 300])
def test_a_data_url_is_a_line_however_short(size: int) -> None:
    data = base64.b64encode(RANDOM.randbytes(size)).decode()
    line = f"[picture: image/png, {size} bytes]"
    assert shown_text(f"Look: ![x](data:image/png;base64,{data}) there.") == f"Look: ![x]({line}) there."
    part = json.dumps({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    assert shown_text(part) == line


@pytest.mark.parametrize("words", ["", "What is in this?\n"])
@pytest.mark.parametrize("size", [300, 400, 30_000])
async def test_a_picture_is_no_request(words: str, size: int) -> None:
    content = words + base64.b64encode(RANDOM.randbytes(size)).decode()
    turns = [NewTurn("user", content), NewTurn("assistant", "It shows a login form with an error.")]
    turns += [NewTurn("user", "Fix the login form, please."), NewTurn("assistant", "I fixed login.py.")]
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    await memory.sync(turns, conversation_id="c")
    brief = (await memory.hand_off("c")).text
    goals = brief.split("Goal\n")[1].split("\n\n")[0].splitlines()
    assert goals == [*(["- What is in this? (t0 user)"] if words else []), "- Fix the login form (t2 user)"]
    assert "[data: base64" not in (await memory.info("c")).title
