"""The three books: what Revox dialled, what the record says, what XCom holds. They must agree, whatever happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import airflow.sdk

from airflow_provider_revox.ledger import POST_WITHIN
from airflow_provider_revox.models import mask_number

if TYPE_CHECKING:
    from tests.system.people import Person


HAS_STORE = hasattr(airflow.sdk, "NEVER_EXPIRE")


@dataclass
class Books:
    """What is known of one person at the end of a scenario."""

    person: str
    number: str
    state: str | None
    tries: int
    orders: list[dict[str, Any]]
    dials: int
    #: None where Airflow keeps none, or has wiped it.
    record: dict[str, Any] | None
    call_id: Any
    answer: Any
    call: Any
    logs: str

    @classmethod
    def of(cls, person: Person) -> Books:
        task = person.task
        run = person.run
        return cls(
            person=str(person),
            number=person.number,
            state=task["state"],
            tries=task["try_number"],
            orders=person.orders,
            dials=person.revox.stats()["dials"].get(person.number, 0),
            record=person.record,
            call_id=run.xcom("call_id"),
            answer=run.xcom("return_value"),
            call=run.xcom("call"),
            logs=person.logs(),
        )

    def check_once(self) -> None:
        """Nobody was phoned twice."""
        assert len(self.orders) <= 1, self
        assert self.dials <= 1, self

    def check_answered(self, *, record: bool = HAS_STORE) -> None:
        """The task succeeded with what the person said, and all three books tell of the same call, if a record is kept."""
        self.check_once()
        assert self.state == "success", self
        (order,) = self.orders
        if record:
            assert self.record is not None, self
            assert (self.record["state"], self.record["call_id"]) == ("placed", order["id"]), self
        else:
            assert self.record is None, self
        assert self.call_id == self.call["id"] == order["id"], self
        assert self.answer is not None, self
        assert self.answer == order["last_call_attempt"]["structured_output"], self

    def check_unknown(self, *, orders: int | None) -> None:
        """
        The task failed for good; it names time and number, says that nobody knows what became of it, and what to do.

        :param orders: how many there are; None for one at the most.
        """
        self.check_once()
        assert orders in (None, len(self.orders)), self
        assert (self.state, self.call_id, self.answer) == ("failed", None, None), self
        assert self.record is not None, self
        assert self.record["state"] == "unknown", self
        posted_at = datetime.fromisoformat(self.record["post_before"].replace("Z", "+00:00")) - POST_WITHIN
        for part in (
            "RevoxOutcomeUnknownError",
            f"A request to phone {mask_number(self.number)} was made at {posted_at.isoformat(timespec='seconds')}",
            "whether it dialled is not known",
            self.record["nonce"],
        ):
            assert part in self.logs, self

    def check_nobody_can_tell(self) -> None:
        """The task failed for good, for want of a record that says whether an earlier try dialled; it did not dial itself."""
        self.check_once()
        assert self.state == "failed", self
        for part in (
            "RevoxOutcomeUnknownError",
            f"Whether an earlier try, or another map index, of this run dialled {mask_number(self.number)} is not known",
            "Nobody was dialled now",
            "start a new run for this person",
        ):
            assert part in self.logs, self

    def __str__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if name not in ("logs", "orders")}
        orders = [(order["id"], order["status"], order["calls_count"]) for order in self.orders]
        return f"{shown}\norders: {orders}\nlogs:\n{self.logs[-6000:]}"

    __repr__ = __str__
