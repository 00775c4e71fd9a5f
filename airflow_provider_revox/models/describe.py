"""What is wrong with a request, in words for the author of a DAG."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic_core.core_schema import ErrorType

from airflow_provider_revox.models.assistant_request import (
    LLM_TYPES,
    REFUSED_LLM_TYPE,
    AssistantRequest,
    Calendly,
    DedicatedLlm,
    FaqItem,
    OpenRouterLlm,
    StructuredOutputField,
    Voice,
)
from airflow_provider_revox.models.numbers import is_e164, mask_number
from airflow_provider_revox.models.request_fields import (
    DATETIME_WANTED,
    REFUSED,
    REFUSED_NUMBER,
    REFUSED_VALUE,
)
from airflow_provider_revox.models.requests import CallRequest, Concurrency
from airflow_provider_revox.models.windows import CallingWindow, CallRetryConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_MODEL_OF_FIELD: dict[str, type[BaseModel]] = {
    "assistant": AssistantRequest,
    "concurrency": Concurrency,
    "call_retry_config": CallRetryConfig,
    "calling_windows": CallingWindow,
    "llm_model": OpenRouterLlm,
    "voice": Voice,
    "calendly": Calendly,
    "faq_items": FaqItem,
    "structured_output_config": StructuredOutputField,
}
_MODEL_OF_TITLE: dict[str, type[BaseModel]] = {
    "CallRequest": CallRequest,
    "DedicatedLlm": DedicatedLlm,
    **{model.__name__: model for model in _MODEL_OF_FIELD.values()},
}
_WANTED: dict[str, str] = {
    "missing": "missing; it is required",
    "string_type": "must be a string",
    "model_type": "must be a mapping of fields",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
}
_TELL_NOTHING_GIVEN = ("missing", REFUSED_VALUE, REFUSED_LLM_TYPE)
_ERRORS_THAT_QUOTE = ("union_tag_invalid", "value_error", "assertion_error", "get_attribute_error", "iteration_error")
_NAME_SAFE_TO_SHOW = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
_DIGITS_LIKE_A_NUMBER = re.compile(r"[0-9]{7}")


def describe_validation_error(error: ValidationError) -> str:
    """Tell what is wrong with a request: one line per problem, each naming the field and what would be right.

    No string that the author gave is repeated, whatever field it was in: numbers are masked, and of the rest
    only the type and the length are told. What may be repeated is a number that is out of its range. So the
    text is fit for a log and for an error that Airflow shows.

    :param error: what a request model raised; other models' errors are described too, in pydantic's words.
    :return: lines such as ``assistant.voice.speed: 1.4 is outside 0.7–1.2, the range of elevenlabs``.
    """
    problems = error.errors(include_url=False)
    lines = [f"{_path(problem, error.title)}: {_sentence(problem, error.title)}" for problem in problems]
    return "\n".join(dict.fromkeys(lines))


def _path(problem: ErrorDetails, title: str) -> str:
    path = ""
    for part in _places(problem):
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{_safe_name(part)}"
    return path.lstrip(".") or title


def _places(problem: ErrorDetails) -> Iterator[int | str]:
    """Leave out what pydantic adds to a place beside field names, and add the field that a union goes by."""
    place = problem["loc"]
    if place and place[-1] == "[key]":
        place = place[:-2]
    before: int | str = ""
    for part in place:
        if not (before == "llm_model" and part in LLM_TYPES):
            yield part
        before = part
    if problem["type"] == REFUSED_LLM_TYPE:
        yield "type"


def _safe_name(name: str) -> str:
    if _NAME_SAFE_TO_SHOW.fullmatch(name) and not _DIGITS_LIKE_A_NUMBER.search(name):
        return name
    return f"(a name of {len(name)} characters)"


def _sentence(problem: ErrorDetails, title: str) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden":
        return _unknown_field(problem, title)
    sentence = _wanted(problem, title)
    if kind in _TELL_NOTHING_GIVEN:
        return sentence
    return f"{sentence} (got {_what_was_given(problem)})"


def _wanted(problem: ErrorDetails, title: str) -> str:
    kind = problem["type"]
    context: Mapping[str, Any] = problem.get("ctx", {})
    if kind in (REFUSED, REFUSED_NUMBER, REFUSED_VALUE):
        return str(context["problem"])
    if kind == REFUSED_LLM_TYPE:
        return problem["msg"]
    if kind in _WANTED:
        return _WANTED[kind]
    if kind == "literal_error":
        return f"must be {context['expected']}{_meant(problem['input'], _quoted(context['expected']))}"
    if kind.startswith("datetime_") and title in _MODEL_OF_TITLE:
        return DATETIME_WANTED
    if kind in _ERRORS_THAT_QUOTE or kind not in get_args(ErrorType):
        return "is not valid"
    return problem["msg"]


def _quoted(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _meant(given: object, known: list[str]) -> str:
    """Suggest the known word next to a given one; what is repeated is ours, not the author's."""
    close = get_close_matches(given, known, n=1) if isinstance(given, str) and len(given) <= 64 else []
    return f" (did you mean {close[0]}?)" if close else ""


def _unknown_field(problem: ErrorDetails, title: str) -> str:
    *parents, name = problem["loc"]
    names_above = [part for part in parents if isinstance(part, str) and part not in LLM_TYPES]
    model = _MODEL_OF_FIELD.get(names_above[-1]) if names_above else _MODEL_OF_TITLE.get(title)
    if "dedicated-instance" in parents:
        model = DedicatedLlm
    if model is None:
        return "unknown field; leave it out"
    meant = _meant(name, list(model.model_fields))
    if model is CallRequest:
        return f"unknown field{meant}; leave it out, or put what this version does not know into extra_body"
    return f"unknown field{meant}; the fields here are {', '.join(model.model_fields)}"


def _what_was_given(problem: ErrorDetails) -> str:
    given = problem["input"]
    if problem["type"] == REFUSED_NUMBER and isinstance(given, str) and is_e164(given.strip()):
        return mask_number(given.strip())
    if given is None:
        return "null"
    if isinstance(given, str):
        return f"a string of {len(given)} character{'' if len(given) == 1 else 's'}"
    return type(given).__name__
