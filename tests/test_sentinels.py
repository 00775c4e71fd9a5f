"""
Sentinels: secrets, numbers and what people said are nowhere but where `BELONGS` has them.

A `Scene` keeps all that a scenario leaves behind, by surface: log records at DEBUG (of httpx and httpcore too), what was
printed, errors and all that hangs on them, deferrals, trigger rows, events, the state store, XComs, reprs, files, and template
fields as Airflow stores them. Warnings are errors here, so none can carry anything away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import traceback
from dataclasses import replace
from itertools import product
from typing import Any

import httpx
import pytest
import structlog
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, BaseOperator
from airflow.sdk._shared.secrets_masker import reset_secrets_masker
from airflow.sdk.execution_time import task_runner
from pydantic import create_model

from airflow_provider_revox import endpoints, exceptions, hooks
from airflow_provider_revox.ledger import Record
from airflow_provider_revox.models import AssistantRequest
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.sensors import RevoxCallSensor
from airflow_provider_revox.simulator import Simulator
from airflow_provider_revox.simulator.assistants import LIVE_API_KEY, LIVE_AUTHORIZATION
from airflow_provider_revox.triggers import RevoxCallTrigger
from tests.conftest import connect
from tests.harness import HAS_STATE_STORE, TaskRun, needs_state_store

#: What is looked for; lines and answers of the simulator's orders come in addition.
SENTINELS = {
    "key": "rvx-Kestrel-7731",
    "prompt": "Wolpertinger",
    "variable": "Numbat",
    "metadata": "lead-Ocelot",
    "answer": "Quokka mood",
    "line": "the spare key is under the third flowerpot",
    "author key": "sk-author-Axolotl",
    "author header": "author-Pangolin",
    "Revox model key": LIVE_API_KEY,
    "Revox tool header": LIVE_AUTHORIZATION.removeprefix("Bearer "),
    "number": "62855501",  # what all numbers here have in common; a masked one shows at most four digits in a row
}
#: Where what belongs, and nowhere else: the author's own input as Airflow renders it, and what a task hands on.
BELONGS = {
    "rendered phone_number": {"number"},
    "rendered from_phone_number": {"number"},
    "rendered metadata": {"metadata"},
    "rendered prompt_variables": {"variable"},
    # Airflow masks by name: it finds api_key, but not the name in a list of {"key": "Authorization", "value": …}.
    "rendered assistant": {"prompt", "answer", "number", "author header"},
    "rendered extra_body": {"author header"},
    "rendered call_id": {"answer"},  # only where the author gives an answer in place of an id
    "xcom return_value": {"answer"},
    "xcom call": {"metadata"},
    "xcom transcript": {"line", "answer", "prompt", "variable"},
    "transcript file": {"line", "answer", "prompt", "variable"},
}
KEY, NUMBER, OUTPUT = SENTINELS["key"], "+16285550100", {"mood": SENTINELS["answer"]}
HEADERS = [{"key": "Authorization", "value": f"Bearer {SENTINELS['author header']}"}]
CUSTOM = {"llm_model": {"type": "custom", "api_key": SENTINELS["author key"]}, "custom_tools": [{"headers": HEADERS}]}
MOOD = {"name": "mood", "type": "enum", "required": True, "enum_options": [*OUTPUT.values()]}
ASSISTANT = {
    "prompt": f"Ask {SENTINELS['prompt']} about {{{{topic}}}}.",
    "structured_output_config": [MOOD, {"name": "comment", "type": "string", "required": True}],
    "transfer_phone_number": "+16285550198",
}
REQUEST = {"phone_number": NUMBER, "assistant": ASSISTANT, "from_phone_number": "+16285550199", "force_now": True}
REQUEST |= {"metadata": {"lead": SENTINELS["metadata"]}, "prompt_variables": {"topic": SENTINELS["variable"]}}
REQUEST |= {"extra_body": CUSTOM}


class Scene(logging.Handler):
    """Keep what scenarios leave behind, and find the sentinels in it."""

    def __init__(self, capture: Any) -> None:
        super().__init__()
        self.capture, self.kill, self.left = capture, None, list[tuple[str, str]]()
        self.texts = {name: {text} for name, text in SENTINELS.items()}

    def keep(self, surface: str, *things: Any) -> None:
        self.left += [(surface, f"{thing!r} {thing}") for thing in things]

    def emit(self, record: logging.LogRecord) -> None:
        self.keep("log", logging.Formatter().format(record), vars(record))
        if self.kill and record.name == "airflow_provider_revox.waiting":
            self.kill()

    def attempt(self, step: Any, *given: Any, **named: Any) -> Any:
        """Call something; return its result or its error, and keep of the error what `from None` hides as well."""
        try:
            done = step(*given, **named)
            return asyncio.run(done) if asyncio.iscoroutine(done) else done
        except Exception as error:
            self.keep("error", "".join(traceback.format_exception(error)))
            chain: list[BaseException] = [error]
            for link in chain:
                self.keep("error" if link is error else "behind the error", link, link.args, vars(link))
                shown = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
                # An error of httpx holds the request, and so the key: where it is shown, a log may tell all of it.
                self.keep("error", getattr(getattr(shown, "_request", None), "headers", httpx.Headers()).raw)
                chain += [more for more in (link.__cause__, link.__context__) if more and more not in chain]
            return error

    def run(self, operator: BaseOperator, task: TaskRun | None = None) -> Any:
        """Run a task as Airflow does; return its result, or the error that it ends with."""
        task = task or TaskRun()
        fire = task._fire
        task._fire = lambda deferred: self.keep("deferral", deferred, vars(deferred)) or fire(deferred)
        kept = {f"rendered {name}": value for name, value in task_runner._serialize_rendered_fields(operator).items()}
        outcome = self.attempt(task.run, operator)
        kept |= {f"xcom {name}": value for name, value in task.xcoms.items()}
        kept |= {"repr": operator, "trigger": task.triggers, "event": task.events}
        for surface, thing in {**kept, "state": task.store and task.store.history}.items():
            self.keep(surface, thing)
        return outcome

    def found(self, orders: Any = ()) -> dict[str, dict[str, str]]:
        """Return by surface which sentinels are there, with what stands around them."""
        for attempt in (attempt for order in orders for attempt in order["call_attempts"]):
            answers = [value for value in (attempt["structured_output"] or {}).values() if isinstance(value, str)]
            said = {entry["content"] for entry in attempt["transcript"] or () if len(entry["content"]) > 12}
            self.texts["answer"].update(answers)
            self.texts["line"] |= said.difference(answers)
        self.keep("printed", *self.capture.readouterr())
        found: dict[str, dict[str, str]] = {}
        for surface, text in self.left:
            # A number may be written with anything between its digits.
            seen = f"{text} {re.sub('[ ()./-]', '', text)}"
            for name, sentinel in ((name, each) for name, texts in self.texts.items() for each in texts):
                if (at := seen.find(sentinel)) >= 0:
                    found.setdefault(surface, {})[name] = seen[max(0, at - 80) : at + 80]
        return found

    def check(self, orders: Any = ()) -> dict[str, dict[str, str]]:
        """Fail unless all is where it belongs; return what was found there."""
        found = self.found(orders)
        there = {(surface, name): around for surface, names in found.items() for name, around in names.items()}
        assert not {at: around for at, around in there.items() if at[1] not in BELONGS.get(at[0], ())}
        return found


@pytest.fixture(scope="module")
def live() -> Any:
    with Simulator(speed=2000, seed=7, live_fields=True, api_key=KEY) as running:
        yield running


@pytest.fixture
def scene(live: Simulator, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Any:
    """Hear every logger at DEBUG, retry and look again at once, and let Airflow mask only what it learns here."""
    live.reset()
    connect(monkeypatch, live)
    reset_secrets_masker()
    real = hooks.settings_from_connection
    for name, value in {
        "hooks.settings_from_connection": lambda given: replace(real(given), backoff_seconds=0.001, tries=3),
        "placing.LOOK_AFTER_SECONDS": (0.0, 0.0),
        "polling.SHORTEST_SECONDS": 0.02,
        "polling.MISSING_SECONDS": 0.1,
    }.items():
        monkeypatch.setattr(f"airflow_provider_revox.{name}", value)
    scene = Scene(capfd)
    for logger in [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]:
        for name, value in {"level": logging.DEBUG, "propagate": True, "disabled": False, "_cache": {}}.items():
            monkeypatch.setattr(logger, name, value)
    monkeypatch.setattr(logging.root, "handlers", [scene])
    before = structlog.get_config()
    processors = [lambda _logger, _method, event: scene.keep("log", dict(event)) or event, *before["processors"]]
    structlog.configure(processors=processors, wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    yield scene
    structlog.configure(**before)


def call(digits: str = "00", **settings: Any) -> RevoxCreateCallOperator:
    return RevoxCreateCallOperator(task_id="call", **{**REQUEST, "phone_number": NUMBER[:-2] + digits, **settings})


def waiting(way: str, digits: str = "00", call_id: Any = None, **settings: Any) -> Any:
    settings = {"poke_interval": 0.05, "max_poll_interval": 0.05, **settings}
    if way.startswith("operator"):
        return call(digits, wait_for_completion=True, deferrable=way == "operator", **settings)
    with hooks.RevoxHook() as hook:
        call_id = call_id or hook.create_call({**REQUEST, "phone_number": NUMBER[:-2] + digits}).id
    settings["mode"] = way.replace("deferrable", "poke")
    return RevoxCallSensor(task_id="call", call_id=call_id, deferrable=way == "deferrable", **settings)


WAYS = ("poke", "reschedule", "deferrable", "operator", "operator on the worker")
STRICT = create_model("Strict", mood=(int, ...), comment=(bool, ...))
KEY_REFUSED = ("unauthorized",) * 9
UNREADABLE = ("drop_reply", "truncated_json", "wrong_content_type", "missing_call")
#: The last digits of the number, which choose what happens; settings; how reading the call fails; what the task ends with.
ENDINGS = [
    ("00", {"success_when": "output"}, (), dict),
    ("00", {"output_model": STRICT}, (), exceptions.RevoxInvalidOutputError),
    ("56", {}, (), exceptions.RevoxCallFailedError),
    ("65", {}, (), exceptions.RevoxCallCancelledError),
    ("58", {"success_when": "human"}, (), exceptions.RevoxCallUnsuccessfulError),
    ("66", {"success_when": "output"}, (), exceptions.RevoxCallUnsuccessfulError),
    ("66", {"success_when": "output", "unsuccessful": "skip"}, (), AirflowSkipException),
    # The next two are killed as soon as a worker waits.
    ("61", {"timeout": 0.2}, (), (exceptions.RevoxCallCancelledError, AirflowSensorTimeout)),
    ("61", {"timeout": 0.2, "cancel_on_timeout": True, "cancel_on_kill": False}, (), AirflowSensorTimeout),
    ("00", {}, ["not_found"] * 99, exceptions.RevoxCallNotVisibleError),
    ("00", {}, KEY_REFUSED, exceptions.RevoxCallNotVisibleError),
    ("00", {}, UNREADABLE, dict),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_end(scene: Scene, live: Simulator, way: str, ending: Any, tmp_path: Any) -> None:
    digits, settings, faults, kind = ending
    if faults is KEY_REFUSED and way.startswith("operator"):
        kind = dict  # who placed the call knows that the key was good, and outlives it
    task, path = waiting(way, digits, **settings), tmp_path / "call.json"
    scene.kill = task.on_kill if digits == "61" else None
    for fault in faults:
        live.add_fault("get_call", fault)
    assert isinstance(scene.run(task, TaskRun(state="failed")), kind)
    found = scene.check(live.orders())
    assert ("xcom return_value" in found, "xcom transcript" in found) == (kind is dict, False)
    if digits == "61":
        assert live.stats()["cancels"] == (way in ("poke", "operator on the worker") or "cancel_on_timeout" in settings)
    if faults is UNREADABLE:  # and once more, with the transcript
        scene.run(waiting(way, digits, push_transcript=True, transcript_path=f"file://{path}"))
        scene.keep("transcript file", path.read_text())
        found = scene.check(live.orders())
        assert set(found["xcom transcript"]) == set(found["transcript file"]) == BELONGS["xcom transcript"]


#: How placing a call fails; how searching for it does; what the operator returns or ends with.
PLACINGS = [
    ("", "", str),
    *((kind, "", str) for kind in UNREADABLE),
    ("reset", "", exceptions.RevoxOutcomeUnknownError),
    *(("drop_reply", kind, exceptions.RevoxOutcomeUnknownError) for kind in ("not_found", "unavailable")),
    *(("rate_limited", "", exceptions.RevoxRateLimitError), ("unauthorized", "", exceptions.RevoxAuthenticationError)),
]


@needs_state_store
@pytest.mark.parametrize(("placing", "searching", "kind"), PLACINGS)
def test_every_way_to_a_call(scene: Scene, live: Simulator, placing: str, searching: str, kind: type) -> None:
    other, task = waiting("poke", "07").call_id, TaskRun()
    if placing:
        live.add_fault("create_call", placing, count=3 if placing == "rate_limited" else 1)
    if searching:
        live.add_fault("search_calls", searching, count=9)
    assert isinstance(scene.run(call(), task), kind)
    ids = [other, *(order["id"] for order in live.orders()), "nothing", task.record["nonce"]]
    for word in [{}, *({name: word} for name in ("adopt", "redial_after") for word in ids)]:
        live.advance(3600)
        scene.run(call(**word), task.next_try())
        scene.run(call("08", **word), task.next_try())
        task.store.set("revox_settle", word or {"what": "to do"})
        scene.run(call(), task.next_try(cleared=True))
        task.store.set("revox_settle", None)
    scene.run(call(), TaskRun(store=None, try_number=2))
    scene.check(live.orders())


ATTEMPT = {"structured_output": OUTPUT, "transcript": [{"role": "user", "content": SENTINELS["line"]}]}
ORDER = {"id": "c1", "to_phone_number": NUMBER, "assistant": ASSISTANT | CUSTOM, "last_call_attempt": ATTEMPT}
TOLD = f"key {KEY} may not call {NUMBER}, +1 (628) 555-0100 or 1-628-555-01-00"
OTHERS = (307, 400, 401, 404, 409, 429)
SENT_ON = {"end_reason": f"sent on to {NUMBER}", "dial_error": f"no {NUMBER}"}
#: What a Revox says that repeats all it knows; errors in which it is part of the message are masked, all else is left out.
SAYS = {
    "one problem": {"error": TOLD, "input": ORDER},
    "problems": {"detail": [{"loc": ["body", "phone_number"], "msg": TOLD, "input": SENTINELS["line"], "ctx": ORDER}]},
    "a page": f"<html>{TOLD}</html>",
    "an order": {"call": ORDER, "calls": [ORDER], "total_count": 1},
    "no id": {"call": {**ORDER, "id": None}, "calls": [7, ORDER]},
    "cut": json.dumps({"call": ORDER})[:-9],
    "free text": {"call": {"id": "c1", "status": "completed", "last_call_attempt": SENT_ON}},
}


@pytest.mark.parametrize(("status", "said"), [*product((200, 422, 500), SAYS), *product(OTHERS, ["one problem"])])
def test_a_revox_that_repeats_what_it_knows(
    scene: Scene, live: Simulator, monkeypatch: Any, status: int, said: str
) -> None:
    def answer(*_: Any) -> httpx.Response:
        return httpx.Response(status, text=SAYS[said] if isinstance(SAYS[said], str) else json.dumps(SAYS[said]))

    async def answer_later(*_: Any) -> httpx.Response:
        return answer()

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer_later)
    connect(monkeypatch, live, api_extensions="on")
    placed = status == 200 and said in ("an order", "free text")
    assert isinstance(scene.run(call()), str if placed else exceptions.RevoxError)
    for way in WAYS[:3]:
        scene.run(waiting(way, call_id="c1", timeout=0.05))
    hook = hooks.RevoxHook()
    for name in ("get_call", "cancel_call", "create_call", "list_calls", "search_calls"):
        given = REQUEST if name == "create_call" else 0 if name.endswith("s") else "c1"
        for method in (getattr(hook, name), getattr(hook, f"a{name}")):
            scene.keep("repr", scene.attempt(method, given))
    scene.keep("repr", hook.test_connection())
    scene.check()


@pytest.mark.parametrize("fault", ["", "not_found", "unavailable"])
def test_cancelling_in_the_triggerer(scene: Scene, live: Simulator, monkeypatch: Any, fault: str) -> None:
    trigger = RevoxCallTrigger(waiting("poke", "61").call_id, "revox_default", cancel_on_kill=True)
    trigger.task_instance = ended = TaskRun(state="failed")
    monkeypatch.setattr(task_runner.RuntimeTaskInstance, "get_task_states", ended.get_task_states)
    if fault:
        live.add_fault("cancel_call", fault, count=9)
    assert scene.attempt(trigger.on_kill) is None
    assert live.stats()["requests"]["cancel_call"]
    scene.check(live.orders())


def test_what_is_refused_and_what_is_shown(scene: Scene) -> None:
    wrong = {"phone_number": NUMBER[1:]}, {"assistant": ASSISTANT | CUSTOM}, {"metadata": {"x": [1]}}
    for task in (RevoxCallSensor(task_id="wait", call_id=OUTPUT), *(call(**given) for given in wrong)):
        assert isinstance(scene.run(task), exceptions.RevoxRequestError)
    request, task = endpoints.read_request(REQUEST), TaskRun()
    scene.run(call(assistant=AssistantRequest(**ASSISTANT)), task)
    with hooks.RevoxHook() as hook:
        client = hook.get_conn()
        scene.keep("repr", hook, client, client.settings, request, request.assistant, endpoints.create_call(request))
        scene.keep("repr", call()._call_wait(hook), hook.search_calls())
        if task.store:
            scene.keep("repr", Record.from_json(task.record))
    scene.check()


class Leaky(RevoxCallSensor):
    __repr__ = lambda self: self.call_id  # noqa: E731

    def execute(self, context: Any) -> None:
        print(self.call_id)
        context["ti"].xcom_push("planted", self.call_id)
        if HAS_STATE_STORE:
            context["task_state_store"].set("planted", self.call_id)
        self.defer(
            trigger=RevoxCallTrigger(self.call_id, "none", deadline=0), method_name="end", kwargs={"said": self.call_id}
        )

    def end(self, context: Any, said: str, event: Any) -> None:
        try:
            raise ValueError(said)
        except ValueError:
            raise RuntimeError(event) from None


@pytest.mark.parametrize(("name", "said"), [*SENTINELS.items(), ("number", "+1 (628) 555-0100")])
def test_what_is_planted_is_found(scene: Scene, name: str, said: str) -> None:
    for plant in (
        lambda: logging.getLogger("httpcore.http11").debug("x %s", [said]),
        lambda: logging.getLogger("airflow_provider_revox.new").debug("x", exc_info=ValueError(said)),
        lambda: structlog.get_logger("airflow").debug("x", y=said),
    ):
        scene.left.clear()
        plant()
        assert set(scene.found()["log"]) == {name}
    scene.run(Leaky(task_id="leaky", call_id=said))
    surfaces = "rendered call_id,printed,xcom planted,state,deferral,trigger,event,error,behind the error,repr,log"
    planted_in = set(surfaces.split(",")) - (set() if HAS_STATE_STORE else {"state"})
    assert {surface for surface, names in scene.found().items() if name in names} == planted_in
    with pytest.raises(AssertionError):
        scene.check()
