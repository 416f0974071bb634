"""The types of the public surface, as type checkers see them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_mypy_sees_the_types_that_the_authoring_surface_promises(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    # A cache of its own: two mypys that share one, as in parallel test runs, get in each other's way.
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), "tests/typing/workflow_types.py"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
