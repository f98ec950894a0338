import pytest

from fer import labels
from fer.artifact import Metadata
from fer.errors import DataError, FerError


def test_fer2013_order():
    assert labels.EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def test_aliases():
    names = ["Anger", " disgusted ", "FEAR", "happiness", "sadness", "surprised", "neutral"]
    assert tuple(labels.canonical(name) for name in names) == labels.EMOTIONS
    assert labels.canonical("contempt") is None


def test_an_emotion_is_added_by_one_call(monkeypatch):
    monkeypatch.setattr(labels, "COLOURS", labels.COLOURS.copy())
    monkeypatch.setattr(labels, "_ALIASES", labels._ALIASES.copy())
    assert labels.colour("contempt") == labels.OTHER_COLOUR
    labels.register("contempt", (1, 2, 3), ["scorn"])
    assert labels.canonical("Scorn") == "contempt"
    assert labels.colour("contempt") == (1, 2, 3)
    assert labels.order(["contempt", "angry", "boredom"]) == ("angry", "contempt", "boredom")


def test_order_puts_known_emotions_first():
    assert labels.order(["zeal", "sad", "angry", "boredom"]) == ("angry", "sad", "boredom", "zeal")


@pytest.mark.parametrize(
    "name", ["a\nb", "a\0", "\x1b[31m", "\udce9", "a\u2028b", "../../x", "/abs", "a\\b", ".", "..", ""]
)
def test_what_cannot_be_shown_in_a_line_or_be_a_folder_is_not_a_class(name):
    assert not labels.is_name(name)
    with pytest.raises(DataError, match="a class cannot be called") as caught:
        labels.order(["happy", name])
    assert "\n" not in str(caught.value)
    with pytest.raises(FerError, match="classes"):  # of a foreign file: faces are collected in such folders
        Metadata(("happy", name), 1, 48, (0.5,), (0.25,))


def test_names_of_any_language_are_classes():
    assert labels.order(["müde", "怒り", "so so", "👩‍🚀"]) == ("müde", "so so", "怒り", "👩‍🚀")
