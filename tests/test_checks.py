"""A wrong value is one line that names its key and what it may be."""

import math

import pytest

from fer.checks import check_choice, check_flag, check_number, check_path
from fer.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "limits", "words"),
    [
        (-1, {}, "k=-1 must be a number from 0 up"),
        (2, {"high": 1}, "k=2 must be a number from 0 to 1"),
        (0, {"above": True}, "k=0 must be a number above 0"),
        (1.5, {"low": 1, "whole": True}, "k=1.5 must be a whole number from 1 up"),
        (True, {}, "k=True must be a number"),
        (math.nan, {}, "k=nan must be a number"),
        (math.inf, {}, "k=inf must be a number"),
        ("5", {}, "k=5 must be a number"),
        (None, {}, "k=null must be a number"),
        ("x", {"optional": True}, "k=x must be a number from 0 up, or null"),
        ([1] * 1000, {}, "k=[1, 1"),
    ],
)
def test_what_is_not_a_number_in_its_range_is_refused(value, limits, words):
    with pytest.raises(ConfigError) as caught:
        check_number("k", value, **limits)
    assert str(caught.value).startswith(words)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        (0, {}),
        (0.5, {"high": 1}),
        (1, {"high": 1}),
        (3, {"whole": True}),
        (None, {"optional": True}),
        (1e-9, {"above": True}),
    ],
)
def test_numbers_in_their_range_pass(value, limits):
    check_number("k", value, **limits)


def test_a_choice_is_one_of_the_words():
    check_choice("k", None, ("auto", None))
    with pytest.raises(ConfigError, match="k=gpu is unknown; choose auto, cpu or null"):
        check_choice("k", "gpu", ("auto", "cpu", None))


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_only_true_and_false_are_flags(value):
    check_flag("k", True)
    with pytest.raises(ConfigError, match=r"k=.* choose true or false"):
        check_flag("k", value)


@pytest.mark.parametrize("value", [5, "", [1], True])
def test_a_path_is_text(value):
    check_path("k", "a.ts")
    check_path("k", None)
    with pytest.raises(ConfigError, match=r"k=.* must be a path"):
        check_path("k", value)
    with pytest.raises(ConfigError, match=r"k=null must be a path$"):
        check_path("k", None, optional=False)
