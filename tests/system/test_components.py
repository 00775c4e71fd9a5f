"""
Scenario 2, the components: triggerers, scheduler and API server die, or sleep, while people are being phoned.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-intent``: `placing.Placing._dial`: the intent before the request;
- ``no-record``: `placing.Placing.once`: the record is heeded at all;
- ``no-resolve``: `placing.Placing.once`: an intent without id is searched for;
- ``anybody``: `cancelling.ENDED_BY_A_PERSON`: a call is cancelled with a task that a person ended, and with no other;
- ``no-arguments``: `triggers.RevoxCallTrigger.serialize`: whoever takes a trigger over knows its call;
- ``not-again``: `triggers.RevoxCallTrigger.run`: a wait can begin again anywhere, from its arguments alone.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.system.acting import deferred, wait_until_watched, waiting_on_worker
from tests.system.books import Books
from tests.system.deployment import Deployment, new_number
from tests.system.people import FINAL_STATES, Person

PEOPLE = 6
AWAY_SECONDS = 60.0
#: Airflow begins a task that has no state within seconds.
FORGOTTEN_SECONDS = 60.0
#: Long enough for every call to end.
A_CALL_SECONDS = 3600.0

pytestmark = [pytest.mark.timeout(400), pytest.mark.destructive]


def waiting_people(airflow: Deployment) -> list[Person]:
    """Return people whose calls will not end before time passes, and whose tasks wait in a triggerer."""
    people = [airflow.call(airflow.still) for _ in range(PEOPLE)]
    for person in people:
        airflow.until(lambda person=person: person.orders, f"{person}: the call")
    airflow.still.advance(10)  # now the phones ring
    for person in people:
        person.wait_for("deferred")
        airflow.until(lambda person=person: triggerer_of(person), f"{person}: a triggerer")
        airflow.until(lambda person=person: airflow.still.looks(person.number), f"{person}: a look from it")
    return people


def triggerer_of(person: Person) -> int | None:
    job = person.task.get("triggerer_job") if person.task.get("trigger") else None
    return job and job["id"]


def check_all_answered(airflow: Deployment, people: list[Person]) -> None:
    for person in people:
        assert {order["status"] for order in person.orders} == {"calling"}, person
    airflow.still.advance(A_CALL_SECONDS)
    for person in people:
        person.wait_for_end()
        Books.of(person).check_answered()


def test_all_triggerers_killed_and_started_again(airflow: Deployment) -> None:
    people = waiting_people(airflow)
    for name in airflow.triggerers:
        airflow.machine.kill(name)
    airflow.heal()
    check_all_answered(airflow, people)


def test_one_of_two_triggerers_killed(airflow: Deployment) -> None:
    people = waiting_people(airflow)
    of_whom = {triggerer_of(person) for person in people}
    airflow.machine.kill(airflow.triggerers[0])
    airflow.until(
        lambda: len({triggerer_of(person) for person in people} - {None}) == 1, f"one triggerer for all, not {of_whom}"
    )
    check_all_answered(airflow, people)


def test_a_triggerer_stopped_for_longer_than_its_lease(airflow: Deployment) -> None:
    """Airflow tells a triggerer that wakes up to end what others took over, as if a person had ended the tasks."""
    sleeper, other = airflow.triggerers
    airflow.machine.kill(other)
    people = waiting_people(airflow)
    (asleep,) = {triggerer_of(person) for person in people}
    airflow.machine.start_again(other)
    airflow.machine.signal(sleeper, signal.SIGSTOP)
    airflow.until(lambda: {triggerer_of(person) for person in people}.isdisjoint({asleep, None}), "the other triggerer")
    wait_until_watched(people)
    airflow.machine.signal(sleeper, signal.SIGCONT)
    for person in people:
        person.until(lambda person=person: "because its task is" in person.logs(), "the decision of the sleeper")
    check_all_answered(airflow, people)


def test_the_schedulers_killed_and_started_again(airflow: Deployment) -> None:
    """With the workers, of which some have not asked for their call yet, and some have."""
    numbers = [new_number() for _ in range(PEOPLE)]
    people = [airflow.call(airflow.search, number=number, stop_at="before_intent") for number in numbers[::2]]
    held = [airflow.search.fault("create_call", "hold", taken=True, phone_number=number) for number in numbers[1::2]]
    for person in people:
        person.wait_until_reached()
    people += [airflow.call(airflow.search, number=number) for number in numbers[1::2]]
    for fault in held:
        airflow.until(lambda fault=fault: airflow.search.has_struck(fault), "the requests")
    for name in (*airflow.schedulers, *airflow.workers):
        airflow.machine.kill(name)
    airflow.heal()
    for person in people:
        person.wait_for_end(250)
        Books.of(person).check_answered()


def test_a_scheduler_killed_alone(airflow: Deployment) -> None:
    """
    Its workers, or what the LocalExecutor leaves of them, go on with what they do; `make test-distributed` plays it.

    Until the next scheduler takes their tasks over (Celery), or begins them anew and so ends what was under way (LocalExecutor).
    """
    number = new_number()
    held = airflow.search.fault("create_call", "hold", taken=True, phone_number=number)
    people = [airflow.call(airflow.search, number=number), waiting_on_worker(airflow), deferred(airflow)]
    airflow.until(lambda: airflow.search.has_struck(held), "the request")
    written = {name: airflow.machine.log_of(name).stat().st_size for name in airflow.schedulers}
    for name in airflow.schedulers:
        airflow.machine.kill_alone(name)
    airflow.heal()

    def taken_over() -> bool:
        new = (
            airflow.machine.log_of(name).read_bytes()[size:].decode(errors="replace") for name, size in written.items()
        )
        return any("tasks from a dead executor" in log or "orphaned TaskInstances" in log for log in new)

    airflow.until(taken_over, "the tasks to be taken over")
    airflow.search.release(number)
    airflow.still.advance(A_CALL_SECONDS)
    for person in people:
        if _is_forgotten(person):
            person.clear()
        person.wait_for_end(250)
        Books.of(person).check_answered()


def _is_forgotten(person: Person) -> bool:
    """
    Say whether Airflow leaves a task without a state, and so for ever; otherwise the task has ended.

    Seen once, of a task that it had reset while what the LocalExecutor had left of it went on. A person clears it then.
    """
    without_state_since: float | None = None

    def ended_or_forgotten() -> str | None:
        nonlocal without_state_since
        state = person.state
        if state is not None:
            without_state_since = None
            return "ended" if state in FINAL_STATES else None
        without_state_since = without_state_since or time.monotonic()
        return "forgotten" if time.monotonic() - without_state_since > FORGOTTEN_SECONDS else None

    return person.until(ended_or_forgotten, "its end", within_seconds=250) == "forgotten"


def test_the_api_server_away_for_a_minute(airflow: Deployment) -> None:
    """While one call is about to be placed, one is being placed, and one resumes."""
    resumes = airflow.call(airflow.still)
    resumes.wait_for("deferred")
    number = new_number()
    held = airflow.search.fault("create_call", "hold", taken=True, phone_number=number)
    places = airflow.call(airflow.search, number=number)
    begins = airflow.call(airflow.search, stop_at="before_intent")
    begins.wait_until_reached()
    airflow.until(lambda: airflow.search.has_struck(held), "the request")

    airflow.machine.kill("api-server")
    back_at = time.monotonic() + AWAY_SECONDS
    airflow.search.release(number)
    begins.let_go()
    airflow.still.advance(A_CALL_SECONDS)
    airflow.until(lambda: time.monotonic() > back_at, "a minute to pass")
    airflow.heal()

    for person in (resumes, places, begins):
        person.wait_for_end(250)
        Books.of(person).check_answered()
