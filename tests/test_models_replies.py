"""What is taken out of an envelope, and what is said of one that lacks something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_revox.models import (
    CallGlance,
    CallSearchResult,
    parse_attempts_reply,
    parse_call_reply,
    parse_search_glances,
    parse_search_reply,
)

SECRET = "sk-live-Tr0ub4dor"


def test_the_lists_are_read():
    assert [attempt.id for attempt in parse_attempts_reply(b'{"calls": [{"id": "at2"}, {}]}')] == ["at2", None]
    found = parse_search_reply(b'{"calls": [{"id": "co1"}], "total_count": "12"}')
    assert isinstance(found, CallSearchResult)
    assert ([one.id for one in found.calls], found.total_count) == (["co1"], 12)
    assert parse_search_reply('{"calls": []}').total_count is None


CALL_READERS = [parse_call_reply, CallGlance.from_reply]
LIST_READERS = [parse_attempts_reply, parse_search_reply, parse_search_glances]
ORDERS_READERS = [parse_search_reply, parse_search_glances]


@pytest.mark.parametrize(
    ("readers", "reply", "words"),
    [
        (CALL_READERS + LIST_READERS, "", "the reply is empty"),
        (CALL_READERS + LIST_READERS, " \n", "the reply is empty"),
        (CALL_READERS + LIST_READERS, f"<html>{SECRET}", "the reply is not JSON"),
        (CALL_READERS, f'{{"call": {{"id": "{SECRET}', "the reply was cut short: its JSON does not end"),
        (LIST_READERS, f'{{"calls": ["{SECRET}"', "the reply was cut short: its JSON does not end"),
        (CALL_READERS + LIST_READERS, "[" * 100_000, "the reply is not JSON"),
        (CALL_READERS + LIST_READERS, f'["{SECRET}"]', "the reply is not a JSON object"),
        (CALL_READERS, f'{{"error": "{SECRET}"}}', "the reply lacks `call`"),
        (CALL_READERS, '{"call": null}', "the reply's `call` is not an object"),
        (CALL_READERS, f'{{"call": "{SECRET}"}}', "the reply's `call` is not an object"),
        (CALL_READERS, f'{{"call": {{"status": "{SECRET}"}}}}', "the reply's `call` has no id"),
        (CALL_READERS, '{"call": {"outcome": "half \\ud83d"}}', "the reply's `call` has no id"),
        *(
            (CALL_READERS, f'{{"call": {{"id": {sent}}}}}', "the reply's `call` has no id")
            for sent in ("null", '""', '" "', "true", "{}", "1.5", "NaN")
        ),
        (LIST_READERS, f'{{"error": "{SECRET}"}}', "the reply lacks `calls`"),
        (LIST_READERS, '{"calls": null}', "the reply's `calls` is not a list"),
        (LIST_READERS, f'{{"calls": [{{"id": "1"}}, "{SECRET}"]}}', "the reply's `calls[1]` is not an object"),
        (ORDERS_READERS, f'{{"calls": [{{"id": "1"}}, {{"x": "{SECRET}"}}]}}', "the reply's `calls[1]` has no id"),
    ],
)
def test_an_envelope_that_lacks_something_is_refused_by_name(readers, reply, words):
    for read in readers:
        for form in (reply, reply.encode()):
            with pytest.raises(ValueError, match="reply") as refusal:
                read(form)
            assert str(refusal.value) == words
            assert type(refusal.value) is ValueError
            assert refusal.value.__context__ is None


@given(st.binary() | st.text())
def test_no_reply_raises_anything_but_a_value_error(reply):
    for read in CALL_READERS + LIST_READERS:
        with pytest.raises(ValueError, match=r"^the reply"):
            read(reply)
