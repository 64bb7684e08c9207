"""The canonical text of a row, over which content is hashed.

A line is the values in column order, joined by tabs and ended by a newline, in UTF-8:

    NULL         \\N
    integers     decimal digits
    decimals     all digits of the scale, as in 12.50
    booleans     true, false
    timestamps   UTC with six digits, as in 2024-01-01T00:00:00.000000Z
    text         as it is, with backslash, tab, newline and carriage return as \\\\ \\t \\n \\r

The hash of a table is the SHA-256 of its lines in ascending order of its first column.
"""

from datetime import datetime, timezone
from decimal import Decimal

ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def value_text(value):
    """One value; a type without a canonical text is an error rather than a guess."""
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a timestamp without a time zone")
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond:06d}Z"
    if isinstance(value, str):
        return value.translate(ESCAPES)
    raise TypeError(f"no canonical text for {type(value).__name__}")


def line(values):
    """A row as its canonical line."""
    return "\t".join(value_text(value) for value in values) + "\n"
