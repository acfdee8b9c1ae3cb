"""A PostgreSQL server of one's own, in a temporary folder, for tests and benchmarks.

It listens on a Unix socket in that folder and on no port. It needs Debian's package `postgresql`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
NUMBERS = count(1)  # of databases
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
SETTINGS = "listen_addresses = ''\nshared_buffers = '32MB'\nmax_connections = 100\n"
NOT_DURABLE = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs. None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return found[-1].parent if found else None


@dataclass(slots=True)
class Server:
    """A server that can be killed and started again on the same data."""

    home: Path
    programs: Path
    is_durable: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"postgresql://test@/postgres?host={self.home}"

    def make(self) -> None:
        """Makes the files of an empty database."""
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
        data = self.home / "data"
        command: list[str | Path] = [
            self.programs / "initdb",
            "-D",
            data,
            "-U",
            "test",
            "-A",
            "trust",
        ]
        command += ["-E", "UTF8", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._as_user())
        settings = SETTINGS + ("" if self.is_durable else NOT_DURABLE)
        settings += f"unix_socket_directories = '{self.home}'\n"
        (data / "postgresql.auto.conf").write_text(settings, encoding="ascii")

    def start(self) -> None:
        """Returns once the server answers."""
        with (self.home / "log").open("ab") as log:
            command: list[str | Path] = [self.programs / "postgres", "-D", self.home / "data"]
            process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user())
        self._process = process
        ready: list[str | Path] = [
            self.programs / "pg_isready",
            "-q",
            "-h",
            self.home,
            "-d",
            "postgres",
        ]
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while subprocess.run(ready, env=ENVIRONMENT).returncode:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError((self.home / "log").read_text(encoding="utf-8"))
            time.sleep(0.05)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database, which is dropped on leaving."""
        name = f"test_{next(NUMBERS)}"
        self._tell(f"create database {name}")
        try:
            yield f"postgresql://test@/{name}?host={self.home}"
        finally:
            self._tell(f"drop database {name} with (force)")

    def _tell(self, statement: str) -> None:
        command: list[str | Path] = [
            self.programs / "psql",
            "-q",
            "-h",
            self.home,
            "-U",
            "test",
            "-d",
            "postgres",
        ]
        subprocess.run([*command, "-c", statement], check=True, **self._as_user())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops the server: SIGINT cuts its connections, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def _as_user(self) -> Mapping[str, Any]:
        """How its programs are started: never as root, which they refuse."""
        common: dict[str, Any] = {"env": ENVIRONMENT, "cwd": self.home, "stdin": subprocess.DEVNULL}
        if os.geteuid() != 0:
            return common
        user = pwd.getpwnam("postgres")
        return common | {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def postgres(*, is_durable: bool = False) -> Iterator[Server]:
    """A running server. With `is_durable` a commit is on the disk, as in production."""
    found = programs()
    if found is None:
        raise RuntimeError("PostgreSQL is missing: apt-get install postgresql")
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path has 107 bytes at most
    server = Server(home, found, is_durable)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
