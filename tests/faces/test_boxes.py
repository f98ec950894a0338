import numpy as np

from fer.faces.boxes import area, cover, intersection

BOXES = np.array([[0, 0, 4, 2], [10, 10, 12, 12]], np.float32)
OTHERS = np.array([[2, 1, 6, 5], [0, 0, 1, 1], [11, 10, 12, 12]], np.float32)


def test_areas_and_what_boxes_share() -> None:
    assert area(BOXES).tolist() == [8, 4]
    assert intersection(BOXES, OTHERS).tolist() == [[2, 1, 0], [0, 0, 2]]
    assert cover(BOXES, OTHERS).tolist() == [[0.125, 1, 0], [0, 0, 1]], "of each of the others"


def test_no_boxes_are_no_case_of_their_own() -> None:
    none = np.zeros((0, 4), np.float32)
    assert area(none).shape == (0,)
    for measure in (intersection, cover):
        assert measure(none, OTHERS).shape == (0, 3) and measure(BOXES, none).shape == (2, 0)
