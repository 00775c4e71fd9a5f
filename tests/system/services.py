"""
A throw-away PostgreSQL and Redis, as processes of a `Machine`.

Both listen on a free port of loopback only, ask for a password of their own, and keep everything in the directory that is given:
after `stop_services` no process, socket or shared memory of theirs is left.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
from demo_airflow import free_port

if TYPE_CHECKING:
    from tests.system.machine import Machine

POSTGRES, REDIS = "postgres", "redis"
START_WITHIN_SECONDS = 60
#: Each Airflow process keeps a pool of its own: 15 connections at the most, the API server twice as many.
CONNECTIONS = 250

#: Nothing of the tests' own surroundings: a PGHOST or PGOPTIONS there would lead astray.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}

_POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": str(CONNECTIONS),
    # Nothing here has to outlive a power cut. But with synchronous_commit off as well, killing it would lose what is committed.
    "fsync": "off",
    "full_page_writes": "off",
    # In its directory, and not in /dev/shm, where one that is killed would leave it.
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
}


class MissingServiceError(Exception):
    """A program is not installed; the message says how to get it."""


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL or Redis; Debian keeps PostgreSQL's out of PATH."""
    newest_first = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, newest_first)))
    if found is None:
        raise MissingServiceError(
            f"{name} is not installed. On Debian and Ubuntu `sh scripts/install_services.sh` brings PostgreSQL and Redis, as"
            " programs only: no cluster is made and no service started."
        )
    return found


def start_postgres(machine: Machine, home: Path) -> str:
    """Start PostgreSQL with an empty database; return its address for SQLAlchemy as soon as it answers."""
    place = home / POSTGRES
    data, word = place / "data", place / "password"
    place.mkdir(mode=0o700)
    data.mkdir(mode=0o700)
    password, port = secrets.token_hex(16), free_port()
    word.write_text(password)
    someone = _somebody_else()
    if someone is not None:
        os.chown(data, someone.pw_uid, someone.pw_gid)
    initdb = [
        *(program("initdb"), "--pgdata", str(data), "--username", "airflow", "--pwfile", str(word)),
        *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
    ]
    machine.start("initdb", _as(someone, initdb), _ENVIRONMENT)
    machine.finish("initdb", START_WITHIN_SECONDS)
    word.unlink()
    settings = (f"--{name}={value}" for name, value in {**_POSTGRES_SETTINGS, "port": port}.items())
    machine.start(POSTGRES, _as(someone, [program("postgres"), "-D", str(data), *settings]), _ENVIRONMENT)
    # With the driver named: SQLAlchemy 2.1, Airflow and its Celery provider each take another one for granted.
    url = f"postgresql+psycopg2://airflow:{password}@127.0.0.1:{port}/postgres"
    machine.until(lambda: postgres_answers(url), "PostgreSQL to answer", START_WITHIN_SECONDS)
    return url


def start_redis(machine: Machine, home: Path) -> str:
    """Start Redis; return its address as soon as it answers."""
    place = home / REDIS
    place.mkdir(mode=0o700)
    password, port = secrets.token_hex(16), free_port()
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{place}"',
        'save ""',
        "appendonly no",
    )
    configuration = place / "redis.conf"
    configuration.write_text("\n".join(lines) + "\n")
    machine.start(REDIS, [program("redis-server"), str(configuration)], _ENVIRONMENT)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    machine.until(lambda: redis_answers(url), "Redis to answer", START_WITHIN_SECONDS)
    return url


def postgres_answers(url: str) -> bool:
    look = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(urlsplit(url).port)]
    return subprocess.run(look, env=_ENVIRONMENT, check=False, timeout=START_WITHIN_SECONDS).returncode == 0


def redis_answers(url: str) -> bool:
    import redis

    with redis.Redis.from_url(url, socket_timeout=5) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def stop_services(machine: Machine) -> None:
    """End those that run. Airflow should be gone by then: whoever is still connected is cut off."""
    for name in (REDIS, POSTGRES):
        if machine.is_running(name):
            if name == POSTGRES:
                # Its "fast" end. The other, which follows and is then passed over, would wait for all clients.
                os.kill(machine.main_pid(name), signal.SIGINT)
            machine.end(name)


def kill_service(machine: Machine, name: str) -> None:
    """End a service as a power cut would; `Machine.kill` misses PostgreSQL's processes, which make sessions of their own."""
    below = psutil.Process(machine.main_pid(name)).children(recursive=True)
    machine.kill(name)
    for process in below:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(below, START_WITHIN_SECONDS)


def _somebody_else() -> pwd.struct_passwd | None:
    """Return as whom PostgreSQL runs when these tests run as root, which it refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise MissingServiceError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody.")


def _as(someone: pwd.struct_passwd | None, command: list[str]) -> list[str]:
    if someone is None:
        return command
    return [
        *("setpriv", f"--reuid={someone.pw_uid}", f"--regid={someone.pw_gid}", "--clear-groups"),
        # The directories of tests are closed to everybody but root (pytest closes its own again and again), and stay so.
        *("--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"),
        *command,
    ]
