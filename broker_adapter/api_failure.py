"""A call of the API that failed, as an exception within a link."""

from __future__ import annotations

from typing import Any


class ApiFailure(Exception):
    """The API, or the link itself, refused: `code` and `text` as in `last_error`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def last_failure(api: Any) -> ApiFailure:
    """Return why the call just made failed. To be asked at once: every call resets it."""
    code, text = api.last_error()
    # The module leaves success behind where a call fails without a reason (market_book_add).
    return ApiFailure(int(code) if code != 1 else -1, str(text) if code != 1 else "Call failed without a reason")
