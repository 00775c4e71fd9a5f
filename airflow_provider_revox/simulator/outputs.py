"""Seeded answers: what a person said, in the shape that the order's structured output config asks for."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

_FIRST_NAMES = (
    "Ada",
    "Bruno",
    "Chiara",
    "Deniz",
    "Elif",
    "Farah",
    "Goran",
    "Hana",
    "Ivo",
    "Jun",
    "Kofi",
    "Lena",
)
_LAST_NAMES = (
    "Moreau",
    "Novak",
    "Okafor",
    "Petrov",
    "Quinn",
    "Rossi",
    "Sato",
    "Tanaka",
    "Urban",
    "Vega",
    "Weiss",
)
_COMPANIES = (
    "Alder & Sons",
    "Brightwater",
    "Cobalt Foods",
    "Delta Print",
    "Evergreen Care",
    "Fjord Logistics",
)
_CITIES = ("Lyon", "Porto", "Graz", "Leeds", "Oslo", "Turin", "Ghent", "Boston", "Denver", "Toronto")
_STREETS = ("Mill Lane", "Station Road", "Church Street", "Harbour Way", "Orchard Close")
_COUNTRIES = ("France", "Portugal", "Austria", "Norway", "Italy", "Belgium", "Canada")
_SENTENCES = (
    "They are content and asked for nothing more.",
    "They would like to hear back next week.",
    "They found the waiting time too long.",
    "They asked for the details by e-mail.",
)
_REASONS = ("price", "timing", "already served", "moved away", "needs approval")


def filled(config: Sequence[Mapping[str, Any]], choices: random.Random, said_at: float) -> dict[str, Any]:
    """Return data that obeys the config: required fields always, optional ones in two calls of three.

    :param said_at: the virtual moment of the talk; dates lie in the weeks after it
    """
    return {
        field["name"]: _value(field, choices, said_at)
        for field in config
        if field["required"] or choices.random() < 2 / 3
    }


def cut_short(config: Sequence[Mapping[str, Any]], choices: random.Random, said_at: float) -> dict[str, Any] | None:
    """Return what little a person who hung up early had said: nothing at all, or optional fields only."""
    if choices.random() < 0.5:
        return None
    return filled([field for field in config if not field["required"]], choices, said_at)


def violating(config: Sequence[Mapping[str, Any]], choices: random.Random, said_at: float) -> dict[str, Any]:
    """Return data in which every field breaks the config: a foreign option, a wrong type, no date at all."""
    wrong: dict[str, Any] = {
        "string": 42,
        "number": "about forty",
        "boolean": "maybe",
        "enum": "none of these",
        "date": "next Tuesday",
        "datetime": "2026-02-30T25:61",
    }
    data = filled(config, choices, said_at)
    return {field["name"]: wrong[field["type"]] for field in config if field["name"] in data}


def spoken(value: object) -> str:
    """Return a value the way a person would say it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)


def _value(field: Mapping[str, Any], choices: random.Random, said_at: float) -> Any:
    kind = field["type"]
    if kind == "number":
        return _number(field["name"].lower(), choices)
    if kind == "boolean":
        return choices.random() < 0.6
    if kind == "enum" and field.get("enum_options"):
        return choices.choice(field["enum_options"])
    if kind in {"date", "datetime"}:
        moment = datetime.fromtimestamp(said_at, timezone.utc) + timedelta(days=choices.randint(1, 30))
        if kind == "date":
            return moment.date().isoformat()
        moment = moment.replace(hour=choices.randint(8, 17), minute=choices.choice((0, 15, 30, 45)), second=0)
        return moment.replace(microsecond=0).isoformat()
    return _string(field["name"].lower(), choices)


def _number(name: str, choices: random.Random) -> int | float:
    if any(word in name for word in ("score", "rating", "nps", "satisfaction")):
        return choices.randint(0, 10)
    if "age" in name.split("_"):
        return choices.randint(18, 90)
    if any(word in name for word in ("price", "amount", "budget", "cost", "total")):
        return round(choices.uniform(10, 5000), 2)
    return choices.randint(1, 20)


def _string(name: str, choices: random.Random) -> str:
    first, last = choices.choice(_FIRST_NAMES), choices.choice(_LAST_NAMES)
    street = f"{choices.randint(1, 120)} {choices.choice(_STREETS)}"
    # The order matters: "company_name" is a company, not a person.
    by_word = (
        (("mail",), f"{first}.{last}@example.com".lower()),
        (("phone", "mobile"), f"+1202555{choices.randint(100, 199):04d}"),
        (("company", "employer", "organisation", "organization"), choices.choice(_COMPANIES)),
        (("first_name", "firstname"), first),
        (("last_name", "lastname", "surname"), last),
        (("city", "town"), choices.choice(_CITIES)),
        (("country",), choices.choice(_COUNTRIES)),
        (("zip", "postal", "postcode"), f"{choices.randint(10_000, 99_999)}"),
        (("address", "street"), street),
        (("website", "url"), f"https://{last.lower()}.example.com"),
        (("reason",), choices.choice(_REASONS)),
        (("name", "person", "contact"), f"{first} {last}"),
    )
    for words, text in by_word:
        if any(word in name for word in words):
            return text
    return choices.choice(_SENTENCES)
