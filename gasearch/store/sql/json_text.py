"""JSON as it stands in columns and events."""

from __future__ import annotations

import json
from typing import Any

from gasearch.store.errors import InvalidRecordError


def to_json(value: Any, what: str) -> str:
    """Return canonical JSON; numbers that JSON lacks are refused."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidRecordError(what, f"it cannot be written as JSON ({error})") from error
