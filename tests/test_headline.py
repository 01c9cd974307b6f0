"""What lists say of an experiment fits into a key, and comes out of it again."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.archive.headline import Headline, key_of, read_key

STEM = "8204512345-digits-baseline-20261121-084739-a1b2c3"
PLAIN = Headline(
    "digits/baseline",
    "2026-11-21T08:47:39.123+00:00",
    "alice",
    "aws",
    "Completed",
    3612,
    3600,
    "2 x ml.g5.xlarge",
    spot=True,
    metrics={"validation:accuracy": 0.97125, "loss": 1.25e-05},
    changed={"SOLVER.BASE_LR": "0.5"},
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
seconds = st.none() | st.integers(0, 10**7)
headlines = st.builds(
    Headline,
    *(texts, texts, texts, texts, texts, seconds, seconds, texts, st.booleans()),
    st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=40),
    st.dictionaries(texts, texts, max_size=40),
)


def packed_like_ours(data: bytes) -> str:
    packer = zlib.compressobj(wbits=-15)
    return base64.urlsafe_b64encode(packer.compress(data) + packer.flush()).decode().rstrip("=")


def test_a_usual_headline_is_one_short_name_and_loses_nothing() -> None:
    key = key_of(STEM, PLAIN, room=40)
    assert "/" not in key
    assert len(key) < 250
    assert read_key(key) == (STEM, PLAIN)


@given(headlines, st.integers(0, 300))
@settings(deadline=None, max_examples=60)
def test_every_headline_fits_into_a_key_and_keeps_what_it_has_room_for(headline: Headline, room: int) -> None:
    try:
        key = key_of(STEM, headline, room)
    except ValueError:
        assert sum(len(text) for text in (headline.experiment_name, headline.user, headline.status)) > 20
        return
    assert room + len(key) <= 1000
    assert all(len(part) <= 250 for part in key.split("/"))
    assert key.replace("/", "").replace(".", "").replace("_", "").replace("-", "").isalnum()
    stem, read = read_key(key)
    assert stem == STEM
    assert (read.experiment_name, read.user, read.status) == (
        headline.experiment_name,
        headline.user,
        headline.status,
    )
    assert read.metrics.items() <= headline.short.metrics.items()
    assert read.changed.items() <= headline.short.changed.items()
    if read.complete:
        assert read == headline.short
        assert (len(read.metrics), len(read.changed)) == (len(headline.metrics), len(headline.changed))


def test_metrics_stay_when_there_is_no_room_for_changed_values() -> None:
    noise = {f"KEY{number}": hashlib.sha256(b"%d" % number).hexdigest() for number in range(32)}
    _, read = read_key(key_of(STEM, replace(PLAIN, changed=noise), room=40))
    assert read.metrics == PLAIN.metrics
    assert 0 < len(read.changed) < 32
    assert not read.complete


def test_what_would_unpack_to_more_than_a_reader_takes_is_shortened() -> None:
    metrics = {f"{number:02d}{'validation:accuracy/' * 13}": float(number) for number in range(32)}
    key = key_of(STEM, replace(PLAIN, metrics=metrics, changed={}), room=40)
    stem, read = read_key(key)
    assert (stem, read.status) == (STEM, "Completed")
    assert 20 < len(read.metrics) < 32
    assert read.metrics.items() <= metrics.items()
    assert not read.complete


def test_a_headline_that_nobody_could_read_is_not_written() -> None:
    with pytest.raises(ValueError, match=STEM):
        key_of(STEM, replace(PLAIN, user="a" * 10_000), room=40)


@given(st.text(max_size=200))
@settings(deadline=None, max_examples=100)
def test_any_other_key_is_refused_in_words(text: str) -> None:
    for key in (text, f"{STEM}.1{text}", f"{STEM}.2{text}"):
        with pytest.raises(ValueError, match="not a headline"):
            read_key(key)


@pytest.mark.parametrize(
    "json", [b"[]", b"{}", b"null", b'["x"]', b"[" * 5000, b"[1,2,3,4,5,6,7,8,9,{},{},true]"]
)
def test_what_unpacks_to_something_else_is_refused(json: bytes) -> None:
    packed = packed_like_ours(json)
    with pytest.raises(ValueError, match="not a headline"):
        read_key(f"{STEM}.1{packed}")


def test_a_bomb_is_not_unpacked() -> None:
    packed = packed_like_ours(b'["' + b"x" * 10**7)
    with pytest.raises(ValueError, match="not a headline"):
        read_key(f"{STEM}.1{packed}")
