"""Text that every database can hold."""

from __future__ import annotations

from delineate.errors import InputError

LONGEST = 10_000


def checked_text(text: str, what: str, *, longest: int = LONGEST, empty: bool = True) -> str:
    """The text itself. Raises `InputError` if it is too long, empty where it must not be, or holds what is no text.

    PostgreSQL takes no NUL, and UTF-8 no half of a surrogate pair.
    """
    if len(text) > longest:
        raise InputError(f"{what} is too long", expected=f"up to {longest} characters", got=len(text))
    if not empty and not text.strip():
        raise InputError(f"{what} is empty")
    if not is_text(text):
        raise InputError(f"{what} holds characters that are no text")
    return text


def is_text(text: str) -> bool:
    """Whether databases can hold and look for it."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def checked_number(number: int, what: str) -> int:
    """The number itself. Raises `InputError` unless it is 0 to 2**31 - 1, which is what databases hold."""
    if not 0 <= number < 2**31:
        raise InputError(f"{what} is out of range", expected="0 to 2147483647", got=str(number)[:40])
    return number


def search_words(*texts: str) -> str:
    """What a search looks in: without upper case, also where a database knows only ASCII."""
    return "\n".join(texts).casefold()
