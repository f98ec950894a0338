"""Draws docs/result.jpg: python docs/result.py <model.ts of a quickstart run>."""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from fer import artifact
from fer.data import synthetic
from fer.labels import EMOTIONS
from fer.stream.annotate import annotate
from fer.stream.types import Faces, Frame, FrameResult

SIDE, GAP = 200, 34

model = artifact.load(sys.argv[1])
faces = [[synthetic.draw(emotion, np.random.default_rng(seed), SIDE) for emotion in EMOTIONS] for seed in (2, 31)]
small = np.stack([cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA) for row in faces for face in row])
probabilities = model(torch.from_numpy(small)[:, None]).numpy()
canvas = np.full((2 * (SIDE + GAP), len(EMOTIONS) * SIDE, 3), 245, np.uint8)
boxes = []
for row, people in enumerate(faces):
    for column, face in enumerate(people):
        x, y = column * SIDE, row * (SIDE + GAP) + GAP
        canvas[y : y + SIDE, x : x + SIDE] = face[..., None]
        boxes.append([x + 6, y + 6, x + SIDE - 6, y + SIDE - 6])
found = Faces(np.array(boxes, np.float32), np.ones(len(boxes), np.float32))
picture = annotate(FrameResult(Frame(canvas, 0, 0.0), found, model.metadata.classes, probabilities))
cv2.imwrite(str(Path(__file__).with_name("result.jpg")), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
