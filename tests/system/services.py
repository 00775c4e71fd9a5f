"""A throw-away PostgreSQL (and Redis) on loopback, in a directory, as processes of a `Machine`."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from demo_airflow import free_port

if TYPE_CHECKING:
    from tests.system.machine import Machine

START_WITHIN_SECONDS = 60
#: Two schedulers, an API server, a dozen workers: more than the default of 100.
CONNECTIONS = 250

#: Nothing here outlives the tests, so nothing needs to be safe on disk.
_UNSAFE_AND_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "on"}


class MissingServiceError(Exception):
    """A program is not installed."""


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL or Redis; Debian keeps PostgreSQL's out of PATH."""
    newest_first = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, newest_first)))
    if found is None:
        raise MissingServiceError(f"{name} is not installed. On Debian: scripts/install-services")
    return found


def start_postgres(machine: Machine, home: Path) -> str:
    """Start PostgreSQL with an empty database ``airflow``; return its address for SQLAlchemy."""
    place = home / "postgres"
    place.mkdir(mode=0o700)
    as_user: dict[str, int] = {}
    if os.getuid() == 0:
        # PostgreSQL refuses to run as root.
        nobody = pwd.getpwnam("nobody")
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
        os.chown(place, nobody.pw_uid, nobody.pw_gid)
        home.chmod(0o711)
    data, port = place / "data", free_port()
    subprocess.run(
        [
            program("initdb"),
            "-D",
            str(data),
            "-U",
            "airflow",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C.UTF-8",
        ],
        check=True,
        capture_output=True,
        cwd=place,
        **as_user,
    )
    settings = {
        **_UNSAFE_AND_FAST,
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(CONNECTIONS),
    }
    command = [program("postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]
    machine.start("postgres", command, {"PATH": os.environ["PATH"]}, **as_user)
    machine.until(lambda: _listens(port), "PostgreSQL to listen", START_WITHIN_SECONDS)
    machine.until(lambda: _makes_database(port), "PostgreSQL to make the database", START_WITHIN_SECONDS)
    return f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _makes_database(port: int) -> bool:
    made = subprocess.run(
        [program("createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "airflow"],
        check=False,
        capture_output=True,
    )
    return made.returncode == 0
