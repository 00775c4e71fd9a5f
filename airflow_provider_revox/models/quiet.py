"""The base of every model: a repr that is safe in a log, and a validator that is built once, at first use."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from airflow_provider_revox.models.numbers import is_e164, mask_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

_LONGEST_SHOWN = 64
_building = RLock()


class QuietModel(BaseModel):
    """Show only the fields that a subclass lists, in ``repr()``, ``str()`` and everything built on them.

    Models hold numbers, prompts, transcripts and keys, and land in logs by accident. So a field is hidden
    unless ``shown_fields`` names it, and a field in ``masked_fields`` is shown as a masked number.
    """

    model_config = ConfigDict(defer_build=True)

    shown_fields: ClassVar[tuple[str, ...]] = ()
    masked_fields: ClassVar[tuple[str, ...]] = ()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name in self.masked_fields:
            value = getattr(self, name, None)
            if value is not None:
                yield name, mask_number(value)
        for name in self.shown_fields:
            value = getattr(self, name, None)
            if value is not None:
                yield name, _fit_to_show(value)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Read a mapping or an instance, as pydantic does; safe to be first used by many threads at once."""
        build_once(cls)
        return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Read JSON, as pydantic does; safe to be first used by many threads at once."""
        build_once(cls)
        return super().model_validate_json(json_data, **options)


def build_once(model: type[BaseModel]) -> None:
    """Build a model's validator if it is not built yet, one thread at a time.

    Before 2.14 pydantic does not lock this itself: a thread that uses a model while another builds it is
    told that the model is abstract, or is given the base class's fields.

    :param model: any model of this package.
    """
    if not model.__pydantic_complete__:
        with _building:
            if not model.__pydantic_complete__:
                model.model_rebuild()


def _fit_to_show(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return mask_number(value) if is_e164(value) else value[:_LONGEST_SHOWN]
