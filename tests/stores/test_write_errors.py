"""A disk that fails now and then: reads, writes and syncs of a process fail with EIO (LD_PRELOAD), and nothing that was
acknowledged is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores.test_faults import verify
from tests.stores.writer_process import ROOT, turns_in

pytestmark = pytest.mark.anyio

# Every call on a file of the data folder is counted; one in EVERY fails, as far as calls of that kind may fail.
_FAILING_CALLS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned calls;

static int fails(const char *name, int file) {
    char link[64], path[4096];
    const char *kinds = getenv("FAIL_CALLS"), *every = getenv("FAIL_EVERY");
    if (!kinds || !every || !strstr(kinds, name)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, ".ctxmem")) return 0;
    return __sync_add_and_fetch(&calls, 1) % atoi(every) == 0;
}
#define CALL(type, name, kind, parameters, arguments) \
    type name parameters { \
        static type (*real) parameters; \
        if (!real) real = (type (*) parameters) dlsym(RTLD_NEXT, #name); \
        if (fails(kind, file)) { errno = EIO; return -1; } \
        return real arguments; \
    }
CALL(ssize_t, read, "read", (int file, void *to, size_t size), (file, to, size))
CALL(ssize_t, pread, "read", (int file, void *to, size_t size, off_t at), (file, to, size, at))
CALL(ssize_t, pread64, "read", (int file, void *to, size_t size, off64_t at), (file, to, size, at))
CALL(ssize_t, write, "write", (int file, const void *from, size_t size), (file, from, size))
CALL(ssize_t, pwrite, "write", (int file, const void *from, size_t size, off_t at), (file, from, size, at))
CALL(ssize_t, pwrite64, "write", (int file, const void *from, size_t size, off64_t at), (file, from, size, at))
CALL(int, fsync, "sync", (int file), (file))
CALL(int, fdatasync, "sync", (int file), (file))
CALL(int, ftruncate, "write", (int file, off_t size), (file, size))
CALL(int, ftruncate64, "write", (int file, off64_t size), (file, size))
"""
TURNS = 60


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler (gcc or cc): calls are made to fail by a library")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "calls.c").write_text(_FAILING_CALLS, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "calls.so", folder / "calls.c", "-ldl"], check=True)
    return folder / "calls.so"


def write_with_errors(data: Path, library: Path, kind: str, every: int) -> str:
    """Lets a process append turns while calls of a kind fail. Returns its output."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.stores.writer", str(data), "c", f"{kind}-{every}", str(TURNS)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "LD_PRELOAD": str(library),
            "FAIL_CALLS": kind,
            "FAIL_EVERY": str(every),
        },
        input="go\n",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False), ran.stderr
    return ran.stdout


@pytest.mark.parametrize("kind", ["read", "write", "sync", "read write sync"])
async def test_calls_that_fail_lose_nothing_acknowledged(tmp_path: Path, library: Path, kind: str) -> None:
    stored: dict[str, str] = {}
    refused = 0
    for every in (7, 23):
        output = write_with_errors(tmp_path, library, kind, every)
        stored |= turns_in(output)
        refused += output.splitlines().count("full")
    if stored:
        turns = await verify(tmp_path, "c", stored)
        assert len(stored) <= turns <= len(stored) + refused, "a refused append is stored whole or not at all"
    assert len(stored) + refused == 2 * TURNS
