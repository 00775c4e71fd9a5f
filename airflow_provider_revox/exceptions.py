"""
The errors of this provider.

::

    RevoxError (AirflowException)
    ├── RevoxRequestError *               bad input, found before anything was written or sent (also a ValueError)
    ├── RevoxConnectionError *            the Airflow connection cannot be used as it is (also a ValueError)
    ├── RevoxAPIError                     Revox answered, but not with what was asked for
    │   ├── RevoxAuthenticationError      401, 403
    │   ├── RevoxNotFoundError            404
    │   ├── RevoxRejectedError *          400, 405, 409, 413, 415, 422 and the like: this request, as it is, never passes
    │   ├── RevoxRateLimitError           429
    │   ├── RevoxServerError              5xx
    │   └── RevoxReplyError               a reply that is not JSON, cut short, or lacks what it must have
    ├── RevoxUnreachableError             no (whole) reply
    ├── RevoxOutcomeUnknownError *        a request that may have dialled a person
    ├── RevoxRecordError *                what the record of this task's calls says forbids going on
    ├── RevoxCallNotVisibleError          the state of an order could not be read for too long
    ├── RevoxCallFailedError *            the order ended as `errored`
    ├── RevoxCallCancelledError *         the order was cancelled
    ├── RevoxCallUnsuccessfulError *      the order completed, but not as `success_when` asks
    └── RevoxInvalidOutputError *         the answer does not fit `output_model`

Those with * also are `AirflowFailException`: another try could not help, so Airflow makes none.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class RevoxError(AirflowException):
    """Base of all errors of this provider."""


class RevoxRequestError(RevoxError, AirflowFailException, ValueError):
    """Bad input: names the field, what is wrong and what would be right. Nothing was written or sent."""


class RevoxConnectionError(RevoxError, AirflowFailException, ValueError):
    """The Airflow connection is missing something or holds a value that cannot be used. Nothing was sent."""


class RevoxAPIError(RevoxError):
    """
    Revox answered with an error.

    :param message: what happened, fit for a log (no key, no full number).
    :param status_code: the HTTP status, for instance 404.
    """

    def __init__(self, message: str, *, status_code: int = 0) -> None:
        super().__init__(message)
        # Airflow's own errors carry an HTTPStatus here, which has no place for statuses that it does not know.
        self.status_code: int = status_code  # type: ignore[assignment]


class RevoxAuthenticationError(RevoxAPIError):
    """The API key was not accepted (401) or may not do this (403)."""


class RevoxNotFoundError(RevoxAPIError):
    """There is no such order, or the deployment has no such endpoint (404)."""


class RevoxRejectedError(RevoxAPIError, AirflowFailException):
    """Revox refused the request for what it says (400, 405, 409, 413, 415, 422 …)."""


class RevoxRateLimitError(RevoxAPIError):
    """
    Too many requests (429).

    :param retry_after: seconds that Revox asks to wait, None if it did not say.
    """

    def __init__(self, message: str, *, status_code: int = 429, retry_after: float | None = None) -> None:
        super().__init__(message, status_code=status_code)
        self.retry_after = retry_after


class RevoxServerError(RevoxAPIError):
    """
    Revox failed (5xx).

    :param retry_after: seconds that Revox asks to wait, None if it did not say.
    """

    def __init__(self, message: str, *, status_code: int = 500, retry_after: float | None = None) -> None:
        super().__init__(message, status_code=status_code)
        self.retry_after = retry_after


class RevoxReplyError(RevoxAPIError):
    """A reply that cannot be read: not JSON, cut short, or without what it must contain."""


class RevoxUnreachableError(RevoxError):
    """
    No reply, or not a whole one.

    :param sent: False when it is certain that nothing of the request left (never connected).
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class RevoxOutcomeUnknownError(RevoxError, AirflowFailException):
    """A request that may have dialled a person, and no way to find out now. The message says how to settle it."""


class RevoxRecordError(RevoxError, AirflowFailException):
    """The record of the calls of this task instance forbids what was asked. Nobody was dialled."""


class RevoxCallNotVisibleError(RevoxError):
    """The state of an order could not be read for too long. The call itself is left alone and may go on."""


class RevoxCallFailedError(RevoxError, AirflowFailException):
    """The order ended as `errored`: Revox could not carry it out."""


class RevoxCallCancelledError(RevoxError, AirflowFailException):
    """The order was cancelled."""


class RevoxCallUnsuccessfulError(RevoxError, AirflowFailException):
    """The order completed, but not as `success_when` asks."""


class RevoxInvalidOutputError(RevoxError, AirflowFailException):
    """The structured output does not fit the task's `output_model`."""
