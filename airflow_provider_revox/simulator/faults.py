"""Faults on demand: what may be asked for, and which request it strikes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from airflow_provider_revox.simulator.seeded import generator

if TYPE_CHECKING:
    import random

Endpoint = Literal["create_call", "get_call", "list_calls", "cancel_call", "pause_call", "resume_call", "search_calls"]
Kind = Literal[
    "drop_reply",
    "reset",
    "bad_gateway_after",
    "rate_limited",
    "server_error",
    "unavailable",
    "slow",
    "truncated_json",
    "wrong_content_type",
    "missing_call",
    "status",
    "late_in_search",
    "incomplete_search",
    "hold",
    "unauthorized",
    "not_found",
]
ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
KINDS: tuple[str, ...] = get_args(Kind)

Seconds = Annotated[StrictInt | StrictFloat, Field(ge=0, allow_inf_nan=False)]

_REQUIRED: dict[str, set[str]] = {"slow": {"seconds"}, "late_in_search": {"seconds"}, "status": {"status"}}
_OPTIONAL: dict[str, set[str]] = {
    "rate_limited": {"retry_after"},
    "truncated_json": {"lie"},
    "status": {"taken", "location"},
    "incomplete_search": {"missing"},
    "hold": {"taken"},
}
_ONLY_AT: dict[str, str] = {"late_in_search": "create_call", "incomplete_search": "search_calls"}
_COMMON = {"endpoint", "kind", "count", "probability", "after", "phone_number"}


class FaultOrder(BaseModel):
    """A fault as it is asked for.

    Without ``count`` and ``probability`` it strikes once. ``after`` lets that many requests through first.
    ``phone_number`` spares requests that are not about this number.
    """

    model_config = ConfigDict(extra="forbid")

    endpoint: Endpoint
    kind: Kind
    count: Annotated[StrictInt, Field(ge=1)] | None = None
    probability: Annotated[StrictInt | StrictFloat, Field(gt=0, le=1)] | None = None
    after: Annotated[StrictInt, Field(ge=0)] = 0
    phone_number: StrictStr | None = None

    retry_after: Seconds | StrictStr | None = None
    seconds: Seconds = 0
    lie: StrictBool = False
    status: Annotated[StrictInt, Field(ge=200, le=599)] = 500
    taken: StrictBool = False
    location: StrictStr | None = None
    missing: Annotated[StrictInt, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _arguments_fit_the_kind(self) -> FaultOrder:
        required = _REQUIRED.get(self.kind, set())
        given = self.model_fields_set - _COMMON
        if foreign := given - required - _OPTIONAL.get(self.kind, set()):
            raise ValueError(f"{self.kind} takes no {', '.join(sorted(foreign))}")
        if lacking := required - given:
            raise ValueError(f"{self.kind} needs {', '.join(sorted(lacking))}")
        if self.endpoint != _ONLY_AT.get(self.kind, self.endpoint):
            raise ValueError(f"{self.kind} strikes {_ONLY_AT[self.kind]} only, not {self.endpoint}")
        return self


class Fault:
    """A fault that is armed: how many requests it still lets through, and how often it has struck."""

    def __init__(self, fault_id: int, order: FaultOrder, choices: random.Random) -> None:
        self.id = fault_id
        self.order = order
        self.fired = 0
        self._let_through = order.after
        # With a probability and no count it strikes for ever.
        self._left = order.count or (None if order.probability is not None else 1)
        self._choices = choices

    def strikes(self, phone_number: str | None = None) -> bool:
        """Whether the fault strikes this request, which is about a number; asking counts the request."""
        if self._left == 0 or self.order.phone_number not in (None, phone_number):
            return False
        if self._let_through > 0:
            self._let_through -= 1
            return False
        if self.order.probability is not None and self._choices.random() >= self.order.probability:
            return False
        if self._left is not None:
            self._left -= 1
        self.fired += 1
        return True

    def shown(self) -> dict[str, Any]:
        """Return the fault as the control API shows it; ``left`` is null when it never runs out."""
        asked = self.order.model_dump(exclude_unset=True)
        return {"id": self.id, **asked, "fired": self.fired, "left": self._left}


class Faults:
    """All armed faults, oldest first: the first one that strikes a request has it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.reset()

    def add(self, order: FaultOrder) -> Fault:
        """Arm a fault."""
        self._last_id += 1
        fault = Fault(self._last_id, order, generator(self._seed, "fault", self._last_id))
        self._by_endpoint.setdefault(order.endpoint, []).append(fault)
        return fault

    def clear(self, phone_number: str | None = None) -> None:
        """Disarm every fault, or those for one number; the counts of what has struck stay."""
        for faults in self._by_endpoint.values():
            faults[:] = [fault for fault in faults if phone_number not in (None, fault.order.phone_number)]

    def reset(self) -> None:
        """Disarm every fault and forget the counts."""
        self._by_endpoint: dict[str, list[Fault]] = {}
        self._last_id = 0
        self.fired: dict[str, int] = {}

    def striking(self, endpoint: str, phone_number: str | None = None) -> Fault | None:
        """Return the fault that strikes this request, which is about a number, if one does."""
        for fault in self._by_endpoint.get(endpoint, ()):
            if fault.strikes(phone_number):
                self.fired[fault.order.kind] = self.fired.get(fault.order.kind, 0) + 1
                return fault
        return None

    def shown(self) -> list[dict[str, Any]]:
        """Return all armed faults."""
        faults = [fault for armed in self._by_endpoint.values() for fault in armed]
        return [fault.shown() for fault in sorted(faults, key=lambda fault: fault.id)]
