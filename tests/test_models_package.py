"""Enums, masked numbers, what a repr shows, and what importing costs."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_revox import models
from airflow_provider_revox.models import (
    Assistant,
    AssistantRequest,
    AttemptStatus,
    Calendly,
    CallAttempt,
    CallGlance,
    CallOrder,
    CallRequest,
    CallResult,
    CallSearchResult,
    CallStatus,
    Concurrency,
    DialError,
    Direction,
    EndedBy,
    FaqItem,
    LlmReply,
    StructuredOutputField,
    TranscriptEntry,
    TranscriptRole,
    enums,
    is_terminal,
    mask_number,
)
from airflow_provider_revox.models.numbers import mask_numbers_in

SECRET = "sk-live-Tr0ub4dor"
NUMBER = "+14155550100"


# Enums


@pytest.mark.parametrize(
    ("members", "values"),
    [
        (
            CallStatus,
            "initializing queued_for_calling calling scheduled completed cancelled errored "
            "post_processing not_launched paused",
        ),
        (AttemptStatus, "queued ringing ongoing completed error"),
        (CallResult, "IVR voicemail human unknown ios-screening-filter"),
        (
            DialError,
            "number_non_attributed too_many_calls busy temporarily_unavailable no_answer "
            "no_international_permission precondition_failed non_classified_error",
        ),
        (EndedBy, "agent user system"),
        (Direction, "inbound outbound"),
        (TranscriptRole, "user assistant tool"),
    ],
)
def test_members_are_their_values_in_every_form(members, values):
    assert [member.value for member in members] == values.split()
    for member in members:
        assert str(member) == f"{member}" == "%s" % member == member.value  # noqa: UP031
        assert f"{member:>30}" == f"{member.value:>30}"
        assert json.dumps(member) == json.dumps(member.value)
        assert pickle.loads(pickle.dumps(member)) is member


def test_three_statuses_end_an_order():
    ended = {"completed", "cancelled", "errored"}
    assert {status.value for status in CallStatus if status.is_terminal} == ended
    assert {status.value for status in CallStatus if is_terminal(status.value)} == ended


@pytest.fixture
def no_status_warned(monkeypatch):
    monkeypatch.setattr(enums, "_unknown_statuses_warned", set())


def test_an_unknown_status_is_not_terminal_and_is_warned_about_once(no_status_warned, caplog):
    caplog.set_level(logging.DEBUG)
    order = CallOrder(id="x", status="teleported")
    assert [order.is_terminal, is_terminal("teleported"), is_terminal("beamed")] == [False] * 3
    assert [(record.levelname, record.name) for record in caplog.records] == [
        ("WARNING", "airflow_provider_revox.models.enums")
    ] * 2
    assert "'teleported'" in caplog.messages[0]
    assert "'beamed'" in caplog.messages[1]


def test_known_statuses_and_none_are_not_warned_about(no_status_warned, caplog):
    assert not any([is_terminal(None), is_terminal("calling"), is_terminal("paused")])
    assert caplog.records == []


def test_warnings_stay_short_and_few(no_status_warned, caplog):
    is_terminal("x" * 10_000 + "\n")
    assert len(caplog.messages[0]) < 300
    for number in range(1000):
        is_terminal(f"status{number}")
    assert len(caplog.records) < 300


# Numbers


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        (NUMBER, "+1415•••0100"),
        ("+33612345678", "+3361•••5678"),
        ("+123456789012345", "+1234•••2345"),
        ("+1234567", "+12•••67"),
        ("+12345678", "+123•••78"),
        ("", "(not E.164: 0 characters)"),
        ("4155550100", "(not E.164: 10 characters)"),
        (" +14155550100", "(not E.164: 13 characters)"),
        (SECRET, f"(not E.164: {len(SECRET)} characters)"),
        (14155550100, "(not a string: int)"),
        (None, "(not a string: NoneType)"),
    ],
)
def test_masks(number, masked):
    assert mask_number(number) == masked


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_a_mask_always_hides_three_digits_and_shows_at_most_eight(number):
    head, tail = mask_number(number).split("•••")
    assert number.startswith(head)
    assert number.endswith(tail)
    assert len(head) - 1 <= 4
    assert len(tail) <= 4
    assert len(head) + len(tail) <= len(number) - 3


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("cannot dial +14155550100 now", "cannot dial +1415•••0100 now"),
        ("14155550100, 33612345678", "+1415•••0100, +3361•••5678"),
        ("order 123456 of 2026", "order 123456 of 2026"),
    ],
)
def test_numbers_within_a_text_are_masked(text, masked):
    assert mask_numbers_in(text) == masked


# Reprs


def test_a_repr_shows_ids_and_masked_numbers():
    request = CallRequest(phone_number=NUMBER, assistant_id="a1", from_phone_number="+14155550199")
    assert repr(request) == (
        "CallRequest(phone_number='+1415•••0100', from_phone_number='+1415•••0199', assistant_id='a1')"
    )
    order = CallOrder(id="co1", status="calling", to_phone_number=NUMBER, calls_count=1)
    assert repr(order) == ("CallOrder(to_phone_number='+1415•••0100', id='co1', status='calling', calls_count=1)")
    assert "+1415•••0100" in repr(CallAttempt(phone_number=NUMBER))
    assert repr(CallOrder(id=NUMBER)) == "CallOrder(id='+1415•••0100')"
    assert "to_phone_number='(not E.164: 5 characters)'" in repr(CallOrder(id="x", to_phone_number="12345"))


def secretive_models():
    key = {"api_key": SECRET, "authorization": SECRET}
    entry = {"content": SECRET, "role": "user", "tool_arguments": key, "tool_name": SECRET}
    attempt = {"transcript": [entry], "structured_output": {"x": SECRET}, "recording_url": SECRET, **key}
    assistant = {
        "prompt": SECRET,
        "name": SECRET,
        "first_sentence": SECRET,
        "voicemail_message": SECRET,
        "webhook_url": SECRET,
        "transfer_phone_number": NUMBER,
        "faq_items": [{"answer": SECRET, "question": SECRET}],
        "calendly": {"connection_id": SECRET, "event_type_id": SECRET},
        "llm_model": {"type": "custom", "api_url": SECRET, "model_name": SECRET, **key},
        "tools": [{"headers": key}],
        "structured_output_config": [{"name": SECRET, "description": SECRET, "enum_options": [SECRET]}],
    }
    order = {
        "id": "co1",
        "assistant": assistant,
        "call_attempts": [attempt],
        "last_call_attempt": attempt,
        "llm_model": key,
        "metadata": {"x": SECRET},
        "prompt_variables": {"x": SECRET},
        "to_phone_number": NUMBER,
        "from_phone_number": NUMBER,
        "outcome_summary": SECRET,
        "campaign": {"name": SECRET},
        **key,
    }
    sent = {
        "prompt": SECRET,
        "first_sentence": SECRET,
        "end_of_call_sentence": SECRET,
        "voicemail_message": SECRET,
        "transfer_phone_number": NUMBER,
        "webhook_url": f"https://example.com/{SECRET}",
        "faq_items": [{"answer": SECRET, "question": SECRET}],
        "llm_model": {
            "type": "openrouter",
            "openrouter_model_id": SECRET,
            "openrouter_provider": SECRET,
        },
    }
    yield CallOrder.model_validate(order)
    yield CallSearchResult.model_validate({"calls": [order], **key})
    yield CallAttempt.model_validate(attempt)
    yield TranscriptEntry.model_validate(entry)
    yield Assistant.model_validate(assistant)
    yield LlmReply.model_validate(assistant["llm_model"])
    yield from vars(Assistant.model_validate(assistant)).values()
    yield CallGlance.model_validate(order)
    yield CallRequest.model_validate(
        {
            "phone_number": NUMBER,
            "assistant": sent,
            "concurrency": {"key": SECRET, "max": 1},
            "metadata": {"x": SECRET},
            "prompt_variables": {"x": SECRET},
            "extra_body": {"x": SECRET},
        }
    )
    yield AssistantRequest.model_validate(sent)
    yield AssistantRequest.model_validate(sent).llm_model
    yield Concurrency(key=SECRET, max=1)
    yield FaqItem(answer=SECRET, question=SECRET)
    yield Calendly(connection_id="c", event_type_id=SECRET)
    yield StructuredOutputField(name=SECRET, required=True, type="string", description=SECRET)


def test_no_repr_shows_a_secret_a_text_or_a_number():
    checked = [model for model in secretive_models() if not isinstance(model, str)]
    assert len(checked) > 15
    for model in checked:
        for text in (repr(model), str(model), f"{model}", repr([model])):
            assert SECRET not in text
            assert NUMBER not in text


# Importing


def run_fresh(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_builds_no_validator():
    unbuilt = run_fresh(
        "from airflow_provider_revox.models import *\n"
        "from airflow_provider_revox import models\n"
        "from pydantic import BaseModel\n"
        "found = [getattr(models, name) for name in models.__all__]\n"
        "found = [one for one in found if isinstance(one, type) and issubclass(one, BaseModel)]\n"
        "assert len(found) > 20\n"
        "print(*[one.__name__ for one in found if one.__pydantic_complete__])\n"
        "print(CallOrder.__pydantic_complete__)\n"
        "CallOrder(id='x')\n"
        "print(CallOrder.__pydantic_complete__)\n"
    )
    assert unbuilt == ["False", "True"]


def test_importing_the_package_brings_nothing_before_it_is_used():
    brought = run_fresh(
        "import sys\n"
        "import airflow_provider_revox.models as models\n"
        "print('pydantic' in sys.modules)\n"
        "models.is_terminal, models.mask_number\n"
        "print('pydantic' in sys.modules)\n"
        "models.CallOrder, models.CallRequest, models.describe_validation_error, models.parse_call_reply\n"
        "heavy = ('airflow', 'httpx', 'aiohttp', 'requests', 'fastapi', 'phonenumbers')\n"
        "print('pydantic' in sys.modules, *[name for name in heavy if name in sys.modules])\n"
    )
    assert brought == ["False", "False", "True"]


def test_validators_are_built_once_though_many_threads_ask_first():
    assert run_fresh(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from threading import Barrier\n"
        "import sys\n"
        "sys.setswitchinterval(1e-6)\n"
        "from airflow_provider_revox.models import CallGlance, CallRequest, parse_call_reply\n"
        "barrier = Barrier(8)\n"
        "def read(_):\n"
        "    barrier.wait()\n"
        '    reply = b\'{"call": {"id": "x", "call_attempts": [{"id": "a"}]}}\'\n'
        "    CallRequest(phone_number='+14155550100', assistant={'prompt': 'Hi'}).wire_json()\n"
        "    return CallGlance.from_reply(reply).id + parse_call_reply(reply).call_attempts[0].id\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print(*set(pool.map(read, range(8))))\n"
    ) == ["xa"]


def test_every_public_name_is_there_and_documented():
    assert sorted(models.__all__) == sorted(models._MODULE_OF_NAME)
    assert set(models.__all__) <= set(dir(models))
    for name in models.__all__:
        public = getattr(models, name)
        assert public.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = models.Nothing
