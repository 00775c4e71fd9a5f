"""
Run the tests that can depend on Airflow's version on each version that is supported, in an environment of its own.

``make test-matrix`` runs all, ``make test-matrix AIRFLOW=3.1.8`` one. What follows ``--`` is for pytest. ``make
test-without-store`` runs, with ``--system``, the system tests for the versions that have no task state store.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".venv" / "matrix"

#: The version, and the day after its release: what Airflow needs is taken as it was then, for a later SQLAlchemy or FastAPI
#: may break an Airflow that could not know it.
VERSIONS = {"3.1.8": "2026-03-12", "3.2.2": "2026-05-30", "3.3.2": "2026-09-18"}
#: The first day of common-compat 1.23, which this provider needs on every version.
COMPAT = "apache-airflow-providers-common-compat=2026-10-25"

#: The versions without a task state store, and the system tests that are about that.
WITHOUT_STORE = ("3.1.8", "3.2.2")
SYSTEM_TESTS = ("tests/system/test_without_store.py", "tests/system/test_person.py")

#: OpenTelemetry, as it came with Airflow 3.2, asks Python in a way that Python warns of. All other warnings stay errors.
THEIR_WARNING = "ignore:SelectableGroups dict interface is deprecated:DeprecationWarning"

#: Test modules in which no version of Airflow can make a difference; `make test` runs them on the latest. A module that is not
#: named here is run on every version.
LEFT_OUT = {
    # The models, the wire and the simulator know nothing of Airflow.
    "test_client",
    "test_client_retries",
    "test_importing",
    "test_models_describe",
    "test_models_package",
    "test_models_replies",
    "test_models_requests",
    "test_models_responses",
    "test_models_secrecy",
    "test_simulator_api",
    "test_simulator_faults",
    "test_simulator_lives",
    "test_simulator_server",
    "test_transport",
    # Pure decisions.
    "test_polling",
    "test_polling_study",
    "test_verdict",
    # Placing without an operator, on a store of the tests; through the operator it is played by test_placing, test_every_fault.
    "test_histories",
    "test_mapped_histories",
    "test_redial",
    "test_searching",
    "test_settling",
    # The wheel is one for all versions, and the demo brings its own Airflow, the latest.
    "test_demo",
    "test_packaging",
    # About the scripts.
    "test_guards",
    "test_matrix",
}


@dataclass(frozen=True)
class Outcome:
    """What came of one version."""

    airflow: str
    good: bool
    said: str
    seconds: float

    def __str__(self) -> str:
        return f"Airflow {self.airflow}: {'ok' if self.good else 'FAILED'} ({self.said}; {self.seconds:.0f} s)"


def test_files(*, system: bool) -> list[str]:
    """Return the test modules to run."""
    if system:
        return list(SYSTEM_TESTS)
    found = sorted((ROOT / "tests").glob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in found if path.stem not in LEFT_OUT]


def install(uv: str, airflow: str) -> Path:
    """Return the Python of an environment with this Airflow, the provider, and what tests need; made anew when that changed."""
    environment = ENVIRONMENTS / airflow
    python = environment / "bin" / "python"
    stamp, wanted = environment / "made-for", f"{VERSIONS[airflow]} {COMPAT}\n{(ROOT / 'pyproject.toml').read_text()}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    pip = [uv, "pip", "install", "--quiet", "--python", str(python)]
    pins = [f"apache-airflow=={airflow}", f"apache-airflow-core=={airflow}"]
    dates = ["--exclude-newer", VERSIONS[airflow], "--exclude-newer-package", COMPAT]
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)],
        [*pip, *dates, *pins, "--editable", ".[simulator]"],
        # Afterwards, and so without the date: tests are written for the present pytest. What is installed stays.
        [*pip, "--group", "test", "--group", "postgres"],
    ):
        subprocess.run(command, cwd=ROOT, check=True)
    stamp.write_text(wanted)
    return python


def run(uv: str, airflow: str, pytest_args: list[str], *, system: bool) -> Outcome:
    """Install one version and run the tests on it."""
    print(f"--- Airflow {airflow} ---", flush=True)
    began = time.monotonic()
    last = ""
    try:
        python = install(uv, airflow)
        # Without a plugin that came with Airflow and is older than pytest, and that no test here uses.
        plugins = ["-p", "no:cacheprovider", "-p", "no:anyio"]
        command = [str(python), "-m", "pytest", "-q", *plugins, "-W", THEIR_WARNING, *pytest_args]
        with subprocess.Popen(
            [*command, *test_files(system=system)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as pytest:
            for line in pytest.stdout or ():
                print(line, end="", flush=True)
                last = line.strip() or last
        good = pytest.returncode == 0
    except subprocess.CalledProcessError as error:
        last, good = f"could not be installed: exit {error.returncode} of {error.cmd[0]}", False
    said = re.sub(r"^=+ | in [\d.]+s.*$", "", last)
    return Outcome(airflow, good, said, time.monotonic() - began)


def main(arguments: list[str]) -> None:
    """Run the versions that are asked for, all by default; the last line tells what came of each."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", help=f"from {', '.join(VERSIONS)}; default: all")
    parser.add_argument("--uv", default="uv", help="path of uv")
    parser.add_argument(
        "--system", action="store_true", help="the system tests for versions without a task state store"
    )
    given = parser.parse_args(arguments[:end])
    if unknown := set(given.versions) - set(VERSIONS):
        parser.error(f"not in the matrix: {', '.join(sorted(unknown))}")
    versions = given.versions or (WITHOUT_STORE if given.system else VERSIONS)
    # One after the other: beside a second Airflow, components on a slow machine are late for their leases.
    outcomes = [run(given.uv, version, arguments[end + 1 :], system=given.system) for version in versions]
    print("\n" + "; ".join(map(str, outcomes)))
    sys.exit(0 if all(outcome.good for outcome in outcomes) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
