import pytest

from fer import labels
from fer.errors import DataError


def test_fer2013_order():
    assert labels.EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert set(labels.COLOURS) == set(labels.EMOTIONS)


def test_aliases():
    names = ["Anger", " disgusted ", "FEAR", "happiness", "sadness", "surprised", "neutral"]
    assert tuple(labels.canonical(name) for name in names) == labels.EMOTIONS
    assert labels.canonical("contempt") is None


def test_order_puts_known_emotions_first():
    assert labels.order(["zeal", "sad", "angry", "boredom"]) == ("angry", "sad", "boredom", "zeal")


@pytest.mark.parametrize("name", ["a\nb", "a\0", "\x1b[31m", "\udce9", "a\u2028b"])
def test_what_cannot_be_shown_in_a_line_or_written_is_no_class(name):
    assert not labels.is_name(name)
    with pytest.raises(DataError, match="no class can be called") as caught:
        labels.order(["happy", name])
    assert "\n" not in str(caught.value)


def test_names_of_any_language_are_classes():
    assert labels.order(["müde", "怒り", "so so", "👩‍🚀"]) == ("müde", "so so", "怒り", "👩‍🚀")
