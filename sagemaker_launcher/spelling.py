"""What was probably meant by a word that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], count: int = 1, likeness: float = 0.6) -> list[str]:
    """The words that look most like another, best first.

    Args:
        word: The word.
        words: Those that are known.
        count: How many at most.
        likeness: How alike at least, from 0 to 1, as `difflib` measures it.
    """
    import difflib  # only for a mistake

    return difflib.get_close_matches(word, list(words), count, likeness)
