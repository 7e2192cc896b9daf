"""The text of a lag pipeline: what it means, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.correlator.pipeline import Recipe, make_recipe, parse_pipeline


def test_the_documented_orders() -> None:
    """Each of the three orders of the VCI schema, with the options, amounts to what it says."""
    texts = {
        "flag ! integrate n=5 ! dvnorm ! window hanning ! fft ! boxcar span=2 ! bdf": Recipe(
            5, True, True, True, 2, window="hanning", output=True
        ),
        'flag suspect="keep"!dvnorm!window hanning width=64!fft!integrate n=3!accnorm!bdf': Recipe(
            3, True, True, False, keep_suspect=True, window="hanning", width=64, output=True
        ),
        " flag ! integrate n='7' ! dvnorm ! bdf ": Recipe(7, True, False, True, output=True),
        "flag ! dvnorm ! fft ! bdf": Recipe(1, True, True, False, output=True),
        "bls path=sets limit=2 ! flag ! integrate ! dvnorm ! null": Recipe(
            1, True, False, False, bls="sets", bls_limit=2
        ),
        "null": Recipe(),
    }
    for text, recipe in texts.items():
        assert make_recipe(parse_pipeline(text)) == recipe, text


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 1, "an element is missing"),
        ("flag ! ", 8, "an element is missing"),
        ("flag ! vanvleck ! bdf", 8, "not an element"),
        ("flag=1 ! bdf", 1, "not an element"),
        ("flag ! fft ! bdf", 8, "directly after dvnorm or window"),
        ("flag ! integrate n=0 ! dvnorm ! bdf", 18, "from 1 to"),
        ("flag ! integrate n=-1 ! dvnorm ! bdf", 18, "from 1 to"),
        ("flag ! integrate n=1e3 ! dvnorm ! bdf", 18, "from 1 to"),
        ("flag ! integrate n=2 n=3 ! dvnorm ! bdf", 22, "twice"),
        ("flag ! integrate m=2 ! dvnorm ! bdf", 18, "no property 'm'"),
        ("flag x ! null", 6, "bare word"),
        ("flag ! dvnorm ! window hamming ! fft ! bdf", 24, "one of hanning, none"),
        ("flag ! dvnorm ! window ! bdf", 26, "directly after"),
        ("integrate n=2 ! dvnorm ! bdf", 1, "directly after"),
        ("bls path=x ! integrate n=2 ! dvnorm ! bdf", 14, "without flag"),
        ("flag ! integrate n=2 ! accnorm ! bdf", 24, "without dvnorm"),
        ("flag ! dvnorm ! fft ! integrate n=2 ! bdf", 39, "directly after"),
        ("flag ! dvnorm ! flag ! bdf", 17, "a second flag"),
        ("flag ! dvnorm ! fft ! bdf ! null", 29, "ends a pipeline"),
        ("flag ! dvnorm ! fft", 17, "end it with bdf or null"),
        ("bls path=../x", 5, "not a name"),
        ("bls path=/etc/x", 5, "not a name"),
        ("bls", 1, "needs path"),
        ("flag n== ! bdf", 6, "neither a word"),
    ],
)
def test_what_means_nothing_is_refused(text: str, position: int, words: str) -> None:
    """The sentence names the position and what would be right."""
    with pytest.raises(Refused, match=f"^position {position}: .*{words}"):
        parse_pipeline(text)


@given(st.text(alphabet="flagintebdw !='\"n=10-/.\x00é", max_size=60) | st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Nothing else is ever raised, and what is accepted has all its properties."""
    try:
        elements = parse_pipeline(text)
    except Refused:
        return
    assert all("" not in element.properties.values() for element in elements)


def test_a_span_must_divide_the_channels() -> None:
    """128 lags are 64 channels: 3 of them cannot be averaged."""
    recipe = make_recipe(parse_pipeline("flag ! dvnorm ! fft ! boxcar span=3 ! bdf"))
    with pytest.raises(Refused, match="does not divide the 64 channels"):
        recipe.channels(128)
    assert recipe.channels(384) == 64
