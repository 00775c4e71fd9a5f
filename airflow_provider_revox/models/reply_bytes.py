"""From the bytes of a reply to a model, or to one short sentence about what is wrong with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ModelT = TypeVar("_ModelT", bound=BaseModel)


def read_reply(envelope: type[_ModelT], reply: bytes | str) -> _ModelT:
    """Read a reply straight from its bytes.

    :param envelope: the model of the whole reply.
    :param reply: the body of the reply.
    :raises ValueError: when it is not JSON, was cut short, or lacks what the envelope requires. The message
        names what is missing and repeats nothing of the body.
    """
    try:
        return envelope.model_validate_json(reply)
    except ValidationError as error:
        problem = _first_problem(error)
    if problem["type"] == "json_invalid":
        return _read_repaired(envelope, reply, problem)
    raise ValueError(_describe(problem))


def _read_repaired(envelope: type[_ModelT], reply: bytes | str, problem: ErrorDetails) -> _ModelT:
    """Read with Python's own parser, which forgives the half characters that cutting a text leaves."""
    try:
        text = reply if isinstance(reply, str) else reply.decode("utf-8-sig", errors="replace")
        repaired = json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace")
        return envelope.model_validate_json(repaired)
    except ValidationError as error:
        sentence = _describe(_first_problem(error))
    except (ValueError, RecursionError):
        sentence = _describe(problem) if reply.strip() else "the reply is empty"
    raise ValueError(sentence)


def _first_problem(error: ValidationError) -> ErrorDetails:
    return error.errors(include_url=False, include_input=False)[0]


def _describe(problem: ErrorDetails) -> str:
    if problem["type"] == "json_invalid":
        context: dict[str, Any] = problem.get("ctx", {})
        cut_short = str(context.get("error", "")).startswith("EOF")
        return "the reply was cut short: its JSON does not end" if cut_short else "the reply is not JSON"
    place = problem["loc"]
    if not place:
        return "the reply is not a JSON object"
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if place[-1] == "id":
        return f"the reply's `{path.removesuffix('.id')}` has no id"
    if problem["type"] == "missing":
        return f"the reply lacks `{path}`"
    return f"the reply's `{path}` is not {'a list' if problem['type'] == 'list_type' else 'an object'}"
