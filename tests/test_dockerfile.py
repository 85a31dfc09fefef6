"""The steps of the Dockerfile, run without a daemon: its commands, with the image's folders below an empty one.

What needs an image stays out: the base image, the system's user, and the read-only root, in whose place nothing may be
written outside the volume.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "packages" / "docker" / "Dockerfile"
PORT = "8377"
SECONDS = 800.0
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="the image is Linux's"),
]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, in order."""
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    found = re.split(r"(?<!\\)\n", "\n".join(lines))
    return [
        (name, rest.replace("\\\n", " ").strip()) for name, _, rest in (one.partition(" ") for one in found) if name
    ]


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Image:
    """The image's file system, below a folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port, self.working, self.environment = folder, port, folder, dict[str, str]()
        self.commands: dict[str, list[str]] = {}

    def place(self, text: str) -> str:
        """A text with the image's paths and its port as they are here."""
        text = re.sub(r"(?<![\w.])/(src|opt|data)\b", lambda found: str(self.folder / found[1]), text)
        return text.replace(PORT, str(self.port))

    def apply(self, name: str, rest: str) -> None:
        """Applies an instruction."""
        if name == "WORKDIR":
            self.working = Path(self.place(rest))
            self.working.mkdir(parents=True)
        elif name == "COPY" and "--from=" not in rest:
            *sources, target = rest.split()
            for source in sources:
                to = self.working / target
                to = to / Path(source).name if target.endswith("/") and (ROOT / source).is_file() else to
                to.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, to)
        elif name == "ENV":
            for setting in shlex.split(rest):
                variable, _, value = setting.partition("=")
                self.environment[variable] = self.place(value.replace("$PATH", os.environ["PATH"]))
        elif name == "RUN":
            self._run(rest)
        elif name == "HEALTHCHECK":
            self.commands[name] = json.loads(self.place(rest.partition("CMD ")[2]))
        elif name in ("ENTRYPOINT", "CMD"):
            self.commands[name] = json.loads(self.place(rest))

    def _run(self, command: str) -> None:
        """Runs a command; the user that the image has is the one who runs the test."""
        command = re.sub(r"useradd [^&]*&&", "", command).replace("--owner=ctxmem", "")
        path = f"{Path(sys.executable).resolve().parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "EXTRAS": "", "PATH": path}
        subprocess.run(self.place(command), shell=True, cwd=self.working, env=environment, check=True, timeout=SECONDS)

    @contextmanager
    def start(self) -> Iterator[subprocess.Popen[bytes]]:
        """The container's process, with the host that the compose file allows and one principal."""
        self.environment["CTXMEM_ALLOWED_HOSTS"] = "localhost"
        (name,) = self.commands["ENTRYPOINT"]
        program = str(Path(self.environment["PATH"].partition(os.pathsep)[0]) / name)
        subprocess.run([program, "principals", "add", "me"], env=self.environment, check=True, timeout=SECONDS)
        process = subprocess.Popen([program, *self.commands["CMD"]], env=self.environment, cwd=self.folder)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(SECONDS)

    def is_healthy(self) -> bool:
        """Whether the health check succeeds."""
        program, *arguments = self.commands["HEALTHCHECK"]
        command = [shutil.which(program, path=self.environment["PATH"]) or program, *arguments]
        return not subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode

    def files(self) -> set[Path]:
        """All files outside the volume."""
        return {file for file in self.folder.rglob("*") if self.folder / "data" not in (file, *file.parents)}


def test_the_steps_build_a_service_that_becomes_healthy_and_writes_to_its_volume_only(tmp_path: Path) -> None:
    image = Image(tmp_path / "image", free_port())
    image.folder.mkdir()
    for name, rest in instructions():
        image.apply(name, rest)
    shutil.rmtree(image.folder / "src")  # the second stage has the environment only
    assert oct((image.folder / "data").stat().st_mode)[-3:] == "700"
    before = image.files()
    with image.start() as process:
        until = time.monotonic() + SECONDS
        while not image.is_healthy():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
    assert image.files() == before
    assert list((image.folder / "data").iterdir())
