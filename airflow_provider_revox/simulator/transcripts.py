"""Seeded transcripts: a talk that fits the prompt, the first sentence and the data it ended with."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_revox.simulator.outputs import spoken

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

Entry = dict[str, Any]

_VARIABLE = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")
_GREETINGS = ("Hello?", "Yes, speaking.", "Hi, who is this?", "Good day.")
_MENU = "For opening hours press one, for anything else press two."
_SCREEN = "Please say your name and why you are calling, then I will see whether this person is available."


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Put the order's prompt variables in place of ``{{name}}``; unknown names are left as they are."""
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), text)


def opening_line(assistant: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """Return the assistant's first sentence, or one made from its prompt."""
    if assistant["first_sentence"]:
        return interpolated(assistant["first_sentence"], variables)
    topic = interpolated(assistant["prompt"], variables).strip().splitlines() or ["a short question"]
    return f"Hello, this is a call about the following: {topic[0][:120]}"


def talk(
    assistant: Mapping[str, Any],
    variables: Mapping[str, str],
    data: Mapping[str, Any],
    choices: random.Random,
    *,
    ended_by: str,
) -> list[Entry]:
    """Return a talk with a human in which every item of the data is asked for and answered."""
    entries: list[Entry] = []
    if assistant["first_sentence_mode"] != "none":
        entries.append(_assistant(opening_line(assistant, variables)))
    entries.append(_user(choices.choice(_GREETINGS)))
    for name, value in data.items():
        entries.append(_assistant(f"Could you tell me the {name.replace('_', ' ')}?"))
        entries.append(_user(spoken(value)))
    if not data:
        entries.append(_assistant("Do you have a minute for this?"))
        entries.append(_user("Yes, that is fine."))
    if choices.random() < 0.3:
        entries.append(_tool("lookup_record", {"reference": f"R-{choices.randint(100, 999)}"}, choices))
        entries.append(_assistant("Thank you, I have found the record."))
    if ended_by == "agent":
        entries.append(_assistant(assistant["end_of_call_sentence"] or "Thank you for your time. Goodbye."))
        entries.append(_tool("end_call", {"reason": "done"}, choices))
    return entries


def cut_short(assistant: Mapping[str, Any], variables: Mapping[str, str]) -> list[Entry]:
    """Return the talk with somebody who hangs up at the first sentence."""
    return [_assistant(opening_line(assistant, variables)), _user("No thank you, goodbye.")]


def on_voicemail(assistant: Mapping[str, Any], variables: Mapping[str, str]) -> list[Entry]:
    """Return what is said to a voicemail: the message, or nothing when there is none to leave."""
    message = assistant["voicemail_message"]
    heard = [_user("Please leave a message after the tone.")]
    return [*heard, _assistant(interpolated(message, variables))] if message else heard


def on_menu() -> list[Entry]:
    """Return what a phone menu says."""
    return [_user(_MENU)]


def on_screening(assistant: Mapping[str, Any], variables: Mapping[str, str]) -> list[Entry]:
    """Return what the screening filter of a phone asks, and the answer it gets."""
    return [_user(_SCREEN), _assistant(opening_line(assistant, variables))]


def _assistant(content: str) -> Entry:
    return {"content": content, "role": "assistant"}


def _user(content: str) -> Entry:
    return {"content": content, "role": "user"}


def _tool(name: str, arguments: dict[str, Any], choices: random.Random) -> Entry:
    # The service sends the arguments now as a map, now as text.
    as_text = choices.random() < 0.5
    return {
        "content": "ok",
        "role": "tool",
        "tool_arguments": json.dumps(arguments) if as_text else arguments,
        "tool_is_error": False,
        "tool_name": name,
    }
