"""What is fuzzed: how an input is made, what has to be true of it, and how it is kept in a file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Named pieces of bytes: the files of a config, the objects of an archive, the lines of a log.
Input = dict[str, bytes]
Random = random.Random


@dataclass(frozen=True)
class Subject:
    """One kind of input.

    Attributes:
        name: In one word.
        count: How many inputs `make fuzz` makes.
        limit_s: Seconds of processor time that one of them may take.
        make: Makes an input; the same one whenever the random numbers are the same.
        judge: Gives what became of an input, `accepted` or the kind of refusal, and raises when something is wrong.
            It gets a folder of its own, which has what it left there before.
        sample: How many inputs the tests make, which take seconds.
        worth: How many things one input is: a log has many lines.
    """

    name: str
    count: int
    limit_s: float
    make: Callable[[Random], Input]
    judge: Callable[[Input, Path], str]
    sample: int
    worth: int = 1


def random_for(seed: int, name: str, number: int) -> Random:
    """The random numbers of one input, which depend on no other input."""
    return random.Random(f"{seed} {name} {number}")


def written(pieces: Input) -> str:
    """An input as the text of a file."""
    return json.dumps({name: data.decode("latin-1") for name, data in pieces.items()}, indent=1) + "\n"


def read(text: str) -> Input:
    """The inverse of `written`."""
    return {name: data.encode("latin-1") for name, data in json.loads(text).items()}
