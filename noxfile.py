"""Everything that a developer or a CI job runs, one session each. It needs nothing but Python.

``python3 noxfile.py tests`` puts nox into an environment of its own below ``.nox`` and becomes it. Arguments are the
names of sessions, then ``--`` and what they pass on: ``python3 noxfile.py tests -- tests/unit -x``.
Where nox is installed already, ``nox -s tests -- tests/unit -x`` does the same.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# Each Python has environments of its own: nox would go on with those of another, and not say so.
ENVIRONMENTS = ROOT / ".nox" / "{}.{}".format(*sys.version_info)


def bootstrap(arguments: list[str]) -> None:
    """Become nox, after installing it the first time."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one should read why it fails
        sys.exit(f"squidmesh needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}")
    home = ENVIRONMENTS / "bootstrap"
    python, complete = str(home / "bin" / "python"), home / "complete"
    make = [sys.executable, "-m", "venv", "--clear", str(home)], [python, "-m", "pip", "install", "--quiet", "nox"]
    if not complete.exists():
        if any(subprocess.run(command, check=False).returncode for command in make):  # noqa: S603
            sys.exit("noxfile.py: nox could not be installed; the reason stands above")
        complete.touch()
    chosen = ["-s", *arguments] if arguments and not arguments[0].startswith("-") else arguments
    os.execv(python, [python, "-m", "nox", "-f", __file__, *chosen])  # noqa: S606


if __name__ == "__main__":
    bootstrap(sys.argv[1:])

import nox  # noqa: E402 - only nox gets this far

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_venv = "yes"
nox.options.envdir = str(ENVIRONMENTS.relative_to(ROOT))

PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
SQUIDMESH = ("-e", ".[binary,embedded]")


def install(session: nox.Session, *wanted: str, groups: tuple[str, ...] = ()) -> None:
    """Install what a session needs, unless it was installed before: a repeated run takes no time and no network."""
    wanted += nox.project.dependency_groups(PYPROJECT, *groups)
    mark = hashlib.sha256(repr((wanted, PYPROJECT, ROOT)).encode()).hexdigest()
    stamp = Path(session.virtualenv.location) / "installed"
    if not stamp.exists() or stamp.read_text() != mark:
        session.install(*wanted)
        stamp.write_text(mark)


@nox.session
def demo(session: nox.Session) -> None:
    """Show what squidmesh does, on a Postgres of its own."""
    install(session, *SQUIDMESH)
    session.run("python", "-m", "squidmesh", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, or what is given after ``--``."""
    install(session, *SQUIDMESH, groups=("test",))
    processes = min(os.cpu_count() or 1, 4)
    session.run("pytest", *(session.posargs or ["-n", str(processes)]))


# The same with other Pythons: skipped where they are not installed, an error in CI.
for version in ("3.12", "3.13", "3.14"):
    nox.session(python=version, name=f"tests-{version}")(tests)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; ``-- --fix`` repairs what can be repaired."""
    install(session, groups=("lint",))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check"]))


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright."""
    install(session, *SQUIDMESH, groups=("types",))
    session.run("mypy")
    session.run("pyright", env={"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"})


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it into a clean environment and use it from there."""
    install(session, *SQUIDMESH, groups=("test",))
    session.run("pytest", "tests/test_wheel.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the code in the documentation and follow its links."""
    install(session, *SQUIDMESH, groups=("test",))
    session.run("pytest", "tests/test_docs.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; ``-- --help`` lists what can be measured."""
    install(session, *SQUIDMESH, groups=("test",))
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session
def smoke(session: nox.Session) -> None:
    """Run every example to its expected end; ``-- saga_checkout`` runs one."""
    _verify(session)


@nox.session
def resilience(session: nox.Session) -> None:
    """Kill all workers and restart Postgres while every kind of work is under way; ``-- --rounds 5``."""
    _verify(session)


@nox.session
def soak(session: nox.Session) -> None:
    """Let everything happen at once for a minute, then look at every row; ``-- --seconds 600 --seed 17``."""
    _verify(session)


@nox.session
def bloat(session: nox.Session) -> None:
    """Load it for five minutes and see that tables stay as small as vacuum can keep them; ``-- --seconds 600``."""
    _verify(session)


def _verify(session: nox.Session) -> None:
    install(session, *SQUIDMESH, groups=("test",))
    session.run("python", "-m", f"examples.verification.{session.name}", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill, cut and freeze in all the ways we know; ``tests`` does a sample of it."""
    install(session, *SQUIDMESH, groups=("test",))
    session.run("pytest", "-m", "chaos", *session.posargs, env={"SQUIDMESH_CHAOS": "full"})
