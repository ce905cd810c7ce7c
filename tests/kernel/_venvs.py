"""A venv for each ipykernel version, made at first use and kept in .cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".cache" / "kernels"
VERSIONS = ("6.17.1", "6.31.0", "7.0.1", "7.3.0", "7.4.0")


@cache
def kernel_python(version: str) -> Path:
    """The interpreter of a venv that has this ipykernel and this project, editable."""
    wanted = bytes(ROOT) + (ROOT / "pyproject.toml").read_bytes()
    folder = HOME / f"{version}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        packages = [f"ipykernel=={version}", "-e", f"{ROOT}[demo]"]
        command: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *packages,
        ]
        subprocess.run(command, check=True, stdout=sys.stderr)
        done.touch()
    return python
