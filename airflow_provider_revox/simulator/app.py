"""The application: the API under ``/api``, and the control of the simulator under ``/_simulator``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field

from airflow_provider_revox.simulator.api import Api
from airflow_provider_revox.simulator.clock import iso
from airflow_provider_revox.simulator.faults import FaultOrder, Faults
from airflow_provider_revox.simulator.recordings import recording
from airflow_provider_revox.simulator.state import ServiceState
from airflow_provider_revox.simulator.validation import unprocessable
from airflow_provider_revox.simulator.wire import Holding

if TYPE_CHECKING:
    from airflow_provider_revox.simulator.clock import VirtualClock

# A virtual year: enough for anything, and far from where dates end.
_FARTHEST_ADVANCE_SECONDS = 366 * 24 * 3600


class Control:
    """What a test may do to the simulator; the HTTP routes and the ``Simulator`` class both call this."""

    def __init__(self, clock: VirtualClock, seed: int, *, live_fields: bool) -> None:
        self.state = ServiceState(clock, seed, live_fields=live_fields)
        self.faults = Faults(seed)
        self.holding = Holding()

    def stats(self) -> dict[str, Any]:
        """Return what has happened so far."""
        return self.state.stats(dict(self.faults.fired), self.holding.held)

    def orders(self) -> list[dict[str, Any]]:
        """Return all orders as responses show them, oldest first."""
        self.state.settle()
        return [json.loads(order.as_bytes()) for order in self.state.orders.values()]

    def add_fault(self, order: FaultOrder) -> dict[str, Any]:
        """Arm a fault and return it."""
        return self.faults.add(order).shown()

    def advance(self, seconds: float) -> float:
        """Jump forward and return the virtual now."""
        if seconds > _FARTHEST_ADVANCE_SECONDS:
            raise ValueError(f"can advance by at most {_FARTHEST_ADVANCE_SECONDS} s at a time, not {seconds!r}")
        self.state.clock.advance(seconds)
        return self.state.settle()

    def reset(self) -> None:
        """Forget orders, counts and faults, release what is held and start the clock anew."""
        self.state.reset()
        self.faults.reset()
        self.holding.release()


def build_app(control: Control, api_key: str, *, extensions: bool) -> FastAPI:
    """Return the whole application."""
    app = FastAPI(title="Revox simulator", openapi_url=None)
    app.add_exception_handler(RequestValidationError, _unprocessable)
    api = Api(control.state, control.faults, control.holding, api_key, extensions=extensions)
    app.mount("/api", api)

    @app.get("/_simulator/stats")
    async def stats() -> JSONResponse:
        return JSONResponse(control.stats())

    @app.get("/_simulator/orders")
    async def orders() -> JSONResponse:
        return JSONResponse(control.orders())

    @app.get("/_simulator/faults")
    async def faults() -> JSONResponse:
        return JSONResponse({"faults": control.faults.shown()})

    @app.post("/_simulator/faults")
    async def add_fault(order: FaultOrder) -> JSONResponse:
        return JSONResponse(control.add_fault(order))

    @app.delete("/_simulator/faults")
    async def clear_faults(phone_number: str | None = None) -> JSONResponse:
        control.faults.clear(phone_number)
        return JSONResponse({"faults": control.faults.shown()})

    @app.post("/_simulator/advance")
    async def advance(
        seconds: Annotated[float, Body(embed=True), Field(ge=0, le=_FARTHEST_ADVANCE_SECONDS, allow_inf_nan=False)],
    ) -> JSONResponse:
        return JSONResponse({"now": iso(control.advance(seconds))})

    @app.post("/_simulator/release")
    async def release(phone_number: str | None = None) -> JSONResponse:
        return JSONResponse({"released": control.holding.release(phone_number)})

    @app.post("/_simulator/api-key")
    async def change_key(
        key: Annotated[str, Body(embed=True, alias="api_key", pattern=r"^[!-~]+( [!-~]+)*$")],
    ) -> JSONResponse:
        api.change_key(key)
        return JSONResponse({})

    @app.post("/_simulator/reset")
    async def reset() -> JSONResponse:
        control.reset()
        return JSONResponse({"now": iso(control.state.clock.now())})

    @app.get("/_simulator/recordings/{attempt_id}.wav")
    async def recorded(attempt_id: str) -> Response:
        control.state.settle()
        if not any(
            attempt.fields["id"] == attempt_id and attempt.fields["recording_url"] for attempt in control.state.attempts
        ):
            raise HTTPException(404, "no recording of this attempt")
        return Response(recording(attempt_id), media_type="audio/wav")

    return app


async def _unprocessable(_request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    # The first part of a place says that it is the body, which is all that these routes have.
    refusal = unprocessable((problem["loc"][1:], problem["msg"]) for problem in problems)
    return JSONResponse({"error": refusal.message, "details": refusal.details}, status_code=refusal.status)
