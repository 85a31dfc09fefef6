"""Writes the bundle for Claude Desktop with all wheels in it, so that it installs without a network.

python packages/offline_bundle.py FOLDER [--wheels DIR]

The wheels are those of this machine's platform and Python; the manifest names both. `mcpb pack FOLDER` packs it. The
host's `uv` installs the wheels when the server is first started. A bundle of the type `python` would need no uv, but be
started by whatever Python the user has; uv finds one of the right version, or says that there is none.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHEELS = "wheels"
PLATFORMS = {"linux": "linux", "darwin": "darwin", "win32": "win32"}
# uv then asks no index, and fails instead of downloading a Python.
SETTINGS = f"""
[tool.uv]
offline = true
no-index = true
find-links = ["./{WHEELS}"]
python-downloads = "never"
package = false
environments = ["sys_platform == '{sys.platform}'"]
"""


def write_bundle(folder: Path, wheels: Path | None = None) -> None:
    """Writes the bundle's files.

    Args:
        folder: where to write them; it must not exist.
        wheels: a folder with this project's wheel and those that it depends on; None: pip builds and downloads them.
    """
    shutil.copytree(ROOT / "packages" / "mcpb", folder)
    if wheels is None:
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--wheel-dir", str(folder / WHEELS), str(ROOT)], check=True)
    else:
        shutil.copytree(wheels, folder / WHEELS)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    project = (folder / "pyproject.toml").read_text("utf-8").splitlines(keepends=True)
    lines = [f'requires-python = "=={python}.*"\n' if line.startswith("requires-python") else line for line in project]
    (folder / "pyproject.toml").write_text("".join(lines) + SETTINGS, "utf-8")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["compatibility"] = {"platforms": [PLATFORMS[sys.platform]], "runtimes": {"python": f"=={python}.*"}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Write the bundle with all wheels in it.")
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels, instead of building and downloading them")
    options = parser.parse_args()
    write_bundle(options.folder, options.wheels)


if __name__ == "__main__":
    main()
