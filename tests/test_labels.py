import subprocess
import sys
import unicodedata
from itertools import combinations

import numpy as np
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


@pytest.mark.parametrize("name", ["0_angry", "angry_0", "00 - Anger", "angry (1)", "0angry", "ANGRY ", "1.anger"])
def test_numbers_case_and_spaces_make_no_difference(name):
    assert labels.canonical(name) == "angry"


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["Contempt", "contempt", "CONTEMPT "], ["contempt"] * 3),
        ([unicodedata.normalize(form, "Fröhlich") for form in ("NFC", "NFD")] + ["fröhlich"], ["fröhlich"] * 3),
        (["STRASSE", "Straße"], ["Straße"] * 2),
        (["ÉTONNÉ", "e\u0301tonne\u0301"], ["étonné"] * 2),
        (["ｈａｐｐｙ", "happy", "ｂｏｒｅｄ", "bored"], ["happy", "happy", "bored", "bored"]),
        (["DİSGUST", "İyi", "iyi", "ısıl", "ISIL"], ["disgust", "İyi", "İyi", "ısıl", "ısıl"]),
        (["sad.", "sad\ufeff", "so\u00a0so", "so so", "-1", "1"], ["sad", "sad", "so so", "so so", "-1", "1"]),
        (["angry_0", "Happy (1)", "bored(2)"], ["angry", "happy", "bored"]),
        (["Happiness", "joy", "zen"], ["happy", "happy", "zen"]),
        (["2_fear", "6_neutral", "7_Contempt", "contempt"], ["fear", "neutral", "contempt", "contempt"]),
        (["happy_1", "happy_2", "sad_1"], ["happy_1", "happy_2", "sad_1"]),
        (["level 1", "level 2"], ["level 1", "level 2"]),
        ([*"0123456"], [*labels.EMOTIONS]),
        ([f"0{k}" for k in range(7)], [*labels.EMOTIONS]),
        ([*"٠١٢٣٤٥٦"], [*labels.EMOTIONS]),
        ([*"01234567"], [*"01234567"]),
        ([*"1234567"], [*"1234567"]),
        ([*"012345"], [*"012345"]),
    ],
)
def test_one_class_has_one_name(names, classes):
    assert list(labels.unify(names).values()) == classes
    assert labels.unify(reversed(names)) == labels.unify(names)


def test_an_emotion_is_added_by_one_call(monkeypatch):
    monkeypatch.setattr(labels, "COLOURS", labels.COLOURS.copy())
    monkeypatch.setattr(labels, "_ALIASES", labels._ALIASES.copy())
    assert labels.colour("contempt") not in labels.COLOURS.values()
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


OWN = {
    "moods": ("engaged", "bored", "focused", "contempt"),
    "one more than the emotions": (*labels.EMOTIONS, "contempt"),
    "numbers": tuple(f"class {k}" for k in range(20)),
    "any script": ("愤怒", "غاضب", "खुश", "Ärger", "😀", "happy"),
    "one word in two ways": ("happy", "happiness", "Happy", "Engaged", "engaged"),
}


def distance(one: labels.Colour, other: labels.Colour) -> float:
    """Distance in Oklab, 0 to 1."""
    pair = np.array([one, other]) / 255
    linear = np.where(pair <= 0.04045, pair / 12.92, ((pair + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ np.array([[0.4122, 0.2119, 0.0883], [0.5363, 0.6807, 0.2817], [0.0514, 0.1074, 0.6300]]))
    lab = cones @ np.array([[0.2105, 1.9780, 0.0259], [0.7936, -2.4286, 0.7828], [-0.0041, 0.4506, -0.8087]])
    return float(np.linalg.norm(lab[0] - lab[1]))


@pytest.mark.parametrize("names", OWN.values(), ids=OWN)
def test_no_two_classes_of_a_model_look_alike(names: tuple[str, ...]):
    tints = labels.colours(names)
    assert tints.keys() == set(names)
    assert min(distance(*pair) for pair in combinations(tints.values(), 2)) > 0.09


def test_colours_of_other_classes_are_seen_on_white_and_on_dark_and_are_not_those_of_the_emotions():
    tints = labels.colours([*labels.EMOTIONS, *(f"class {k}" for k in range(22))])
    assert len(set(tints.values())) == 29
    for name, tint in tints.items():
        linear = (np.array(tint) / 255) ** 2.2
        contrast = (linear @ (0.2126, 0.7152, 0.0722) + 0.05) / 0.06
        assert contrast > 2.9, f"{name} on dark"
        assert 21 / 1.2 / contrast > 1.7, f"{name} on white"


def test_a_colour_depends_on_the_names_alone():
    names = [*labels.EMOTIONS, "engaged", "愤怒", "pain", "sleepy"]
    tints = labels.colours(names)
    assert labels.colours(reversed(names)) == tints
    moved = [name for name in names if labels.colour(name) != tints[name]]
    assert moved == ["sleepy"] and labels.colour("sleepy") == tints["pain"], "only where two want the same one"
    program = f"from fer import labels; print(labels.colours({names!r}))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(tints), "in another process, with other hashes"


def test_a_class_that_means_an_emotion_has_its_colour_unless_the_emotion_is_there_too():
    assert labels.colour("Happiness") == labels.colour("happy") == labels.COLOURS["happy"]
    tints = labels.colours(["happiness", "happy"])
    assert tints["happy"] == labels.COLOURS["happy"] != tints["happiness"]


def test_more_classes_than_colours_all_get_one():
    assert len(labels.colours(f"class {k}" for k in range(50))) == 50
