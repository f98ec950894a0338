"""Train on the faces that the window has filed, in a process beside the camera, and go on with the new model."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from fer.errors import FerError

_COMMAND = (sys.executable, "-m", "fer.train", "experiment=own_faces_quick", "logger=csv")


class Retraining:
    """One training at a time of `experiment=own_faces_quick`.

    Args:
        data: The folder of the filed faces.
        runs: The folder that gets a run folder for each training.
        use: Called with the new model file. It raises `FerError` if that cannot be used.
        command: The program to start; `data.root=` and `hydra.run.dir=` are appended.
    """

    def __init__(
        self, data: Path, runs: Path, use: Callable[[Path], object], command: Sequence[str] = _COMMAND
    ) -> None:
        self._data, self._runs, self._use, self._command = data, runs, use, command
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def start(self) -> str:
        """Start a training, unless one is running. Return a message."""
        if self._process:
            return "still training"
        self._run = self._runs.absolute() / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        words = [f"data.root={self._data.absolute()}", f"hydra.run.dir={self._run}"]
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 (it is read when the process has ended)
        self._process = subprocess.Popen([*self._command, *words], stdout=self._printed, stderr=subprocess.STDOUT)
        self._started = time.monotonic()
        return "training starts"

    def poll(self) -> str | None:
        """Return a message while a training is running, and once when it has ended; else None."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            return f"training, {time.monotonic() - self._started:.0f} s"
        failed, self._process = self._process.returncode, None
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").split("\n")
        self._printed.close()
        if failed:
            return next((line.strip() for line in reversed(lines) if "error:" in line), "the training failed")
        model = next((path for path in (self._run / "model.onnx", self._run / "model.ts") if path.is_file()), None)
        try:
            if model:
                self._use(model)
        except FerError as error:
            return str(error)
        return f"goes on with {model}" if model else "the training made no model"

    def stop(self) -> None:
        """End a training that is running."""
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._printed.close()
            self._process = None
