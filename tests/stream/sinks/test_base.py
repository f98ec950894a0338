import errno
import os
import shutil
from pathlib import Path

import av
import pytest
from samples import flat, frame_result

from fer.errors import SinkError
from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.sinks.base import sink_errors
from fer.stream.sinks.logs import JsonLines
from fer.stream.sinks.video import VideoFile

ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "no files so large",
    errno.EACCES: "permit writing",
    errno.EROFS: "another path",
    errno.ENOENT: "its folder is gone",
    errno.ENOTDIR: "its folder is gone",
    errno.ENAMETOOLONG: "shorter name",
}


@pytest.mark.parametrize("number", ADVICE)
@pytest.mark.parametrize("by", ["system", "ffmpeg"])
def test_the_advice_belongs_to_the_error(number: int, by: str) -> None:
    with pytest.raises(SinkError, match=ADVICE[number]) as caught, sink_errors(Path("out.mp4")):
        if by == "system":
            raise OSError(number, os.strerror(number))
        av.error.err_check(-number)
    assert ("make room" in str(caught.value)) == (ADVICE[number] == "make room")


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.ENXIO])
def test_other_errors_get_no_advice_that_may_be_wrong(number: int) -> None:
    with pytest.raises(SinkError) as caught, sink_errors(Path("out.mp4")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"cannot write out.mp4: {os.strerror(number)}; choose another path"


def test_a_folder_that_disappears_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    video = VideoFile(folder / "out.mp4", Context(FakeSource()))
    with pytest.raises(SinkError, match=r"out\.mp4.*folder is gone"), video:
        video.write(frame_result(0), flat(64, 48))
        shutil.rmtree(folder)
    with pytest.raises(SinkError, match=r"out\.jsonl.*folder is gone"), JsonLines(folder / "out.jsonl"):
        pass
