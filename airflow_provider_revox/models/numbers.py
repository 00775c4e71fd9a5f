"""Phone numbers: what E.164 is, and how a number may be shown."""

from __future__ import annotations

import re

E164_EXAMPLE = "+14155550100"

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_LOOKS_LIKE_A_NUMBER = re.compile(r"(?<![0-9A-Za-z-])\+?\(?[0-9](?:[ ()./-]{0,2}[0-9]){6,}(?![0-9])")
_DIGITS_SHOWN = 8
_DIGITS_HIDDEN = 3


def is_e164(value: object) -> bool:
    """Tell whether a value is a phone number in E.164.

    That is a plus, then 7 to 15 digits of which the first is not 0.

    :param value: anything; only a string without surrounding whitespace can be one.
    """
    return isinstance(value, str) and _E164.fullmatch(value) is not None


def mask_number(number: object) -> str:
    """Show a phone number so that it can be recognised but not dialled: ``+1415•••0100``.

    At most the first four and the last four digits are kept, and at least three are always hidden. Of a
    string that is not E.164 only the length is told, since nothing says which part of it is private.

    :param number: the number; what is not a string is told by its type alone.
    """
    if not isinstance(number, str):
        return f"(not a string: {type(number).__name__})"
    if not is_e164(number):
        return f"(not E.164: {len(number)} characters)"
    digits = number[1:]
    shown = min(_DIGITS_SHOWN, len(digits) - _DIGITS_HIDDEN)
    tail = shown // 2
    head = shown - tail
    return f"+{digits[:head]}•••{digits[-tail:]}"


def mask_numbers_in(text: str) -> str:
    """Mask everything in a text that may be a phone number: 7 or more digits, with what people write between them.

    :param text: for instance an error message of the API, which may repeat the number it is about.
    """

    def masked(found: re.Match[str]) -> str:
        digits = "".join(filter(str.isdigit, found[0]))
        return mask_number(f"+{digits}") if is_e164(f"+{digits}") else f"•••{digits[-4:]}"

    return _LOOKS_LIKE_A_NUMBER.sub(masked, text)
