from fer import labels


def test_fer2013_order():
    assert labels.EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert set(labels.COLOURS) == set(labels.EMOTIONS)


def test_aliases():
    names = ["Anger", " disgusted ", "FEAR", "happiness", "sadness", "surprised", "neutral"]
    assert tuple(labels.canonical(name) for name in names) == labels.EMOTIONS
    assert labels.canonical("contempt") is None


def test_order_puts_known_emotions_first():
    assert labels.order(["zeal", "sad", "angry", "boredom"]) == ("angry", "sad", "boredom", "zeal")
