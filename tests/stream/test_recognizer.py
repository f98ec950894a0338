import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.errors import ConfigError, SourceError
from fer.stream import Recognizer
from fer.stream.fakes import FakeSource
from fer.stream.types import Frame, FrameResult

BOX = (8.0, 8.0, 40.0, 40.0)


def test_a_picture_by_array_and_by_path(one: Recognizer, tmp_path: Path) -> None:
    image = np.full((48, 64, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), image)
    for given in (image, str(tmp_path / "p.png"), tmp_path / "p.png"):
        result = one(given)
        assert (len(result.faces), result.faces.ids, result.smoothed) == (1, None, None)
        assert result.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert result.uncertain.shape == (1,)
    with pytest.raises(SourceError, match="no file"):
        one(tmp_path / "none.png")
    with pytest.raises(ValueError, match="uint8"):
        one(image.astype(float))


def test_a_stream_has_ids_and_ends(one: Recognizer) -> None:
    found = list(one.stream(FakeSource(5)))
    assert [r.faces.ids.tolist() for r in found] == [[1]] * 5
    assert found[-1].smoothed.shape == (1, 3)


def test_max_frames_ends_a_stream_and_closes_its_source(one: Recognizer) -> None:
    source = FakeSource(50)
    assert len(list(one.stream(source, max_frames=7))) == 7 and source.closed
    assert len(list(one.stream(FakeSource(5), max_frames=99))) == 5
    for wrong in (0, -1, 2.5, True, "3"):
        with pytest.raises(ConfigError, match="max_frames"):
            next(one.stream(FakeSource(5), max_frames=wrong))


def test_viewers_do_not_see_each_others_ids(one: Recognizer) -> None:
    image = np.full((48, 64, 3), 90, np.uint8)
    first, second = one.session(), one.session()
    assert [len(first(image, k / 30).faces) for k in range(3)] == [0, 1, 1]
    assert len(second(image, 0.0).faces) == 0
    assert second(image, 0.1).faces.ids.tolist() == first(image, 0.2).faces.ids.tolist() == [1]
    assert len(first(image).faces) == 1  # by the clock


def test_sessions_may_run_side_by_side(one: Recognizer) -> None:
    image, wrong = np.full((48, 64, 3), 90, np.uint8), []

    def view() -> None:
        session = one.session()
        ids = [session(image, k / 30).faces.ids.tolist() for k in range(20)]
        wrong.extend(i for i in ids[1:] if i != [1])

    threads = [threading.Thread(target=view) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


def test_an_async_server_is_not_blocked(one: Recognizer) -> None:
    async def serve() -> tuple[int, list[FrameResult]]:
        ticks, found = 0, []

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(tick())
        async for result in one.astream(FakeSource(6)):
            found.append(result)
        other.cancel()
        return ticks, found

    ticks, found = asyncio.run(serve())
    assert [r.frame.index for r in found] == list(range(6))
    assert ticks > 6


def test_an_async_stream_can_be_left(one: Recognizer) -> None:
    source = FakeSource(10_000)

    async def leave() -> None:
        stream = one.astream(source)
        assert (await anext(stream)).frame.index == 0
        await stream.aclose()

    asyncio.run(leave())
    assert source.closed


def test_an_async_stream_can_be_cancelled_within_a_frame(one: Recognizer) -> None:
    class Slow(FakeSource):
        arrived, goes_on = threading.Event(), threading.Event()

        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                if frame.index == 30:
                    self.arrived.set()
                    self.goes_on.wait(10)
                yield frame

    source, threads = Slow(10_000), set(threading.enumerate())

    async def watch() -> None:
        async for _ in one.astream(source):
            pass

    async def leave() -> None:
        task = asyncio.create_task(watch())
        await asyncio.to_thread(source.arrived.wait, 10)
        await asyncio.sleep(0.2)  # until what came before it is answered, and the next frame is waited for
        task.cancel()
        asyncio.get_running_loop().call_later(0.2, source.goes_on.set)
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())
    assert source.closed and set(threading.enumerate()) <= threads


def test_values_that_cannot_work_are_told_at_once(model: Path) -> None:
    wrong = [{"detector": {"width": 3}}, {"detector": {"foo": 1}}, {"smoothing": {"seconds": -1}}]
    for values in (*wrong, {"device": "tpu"}, {"threads": "many"}, {"threads": -1}):
        with pytest.raises(ConfigError):
            Recognizer(model, **values)
