"""`python infer.py`, `fer-infer` or `python -m fer.stream`: recognize emotions from a camera, a video or pictures.

Heavy modules are imported when needed, so that help appears at once and mistakes are reported before PyTorch is loaded.
"""

import gc
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from fer.config import check_groups, program
from fer.errors import ConfigError, SourceError
from fer.files import expand

if TYPE_CHECKING:
    from fer.stream.recognizer import Recognizer
    from fer.stream.stats import Stats


def run(cfg: DictConfig) -> None:
    """Run inference. Raise `FerError`, or `KeyboardInterrupt` once all outputs are complete."""
    logging.basicConfig(format="warning: %(message)s")
    # `kill` and `timeout` end a run like Ctrl-C, with complete files.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    check_groups(cfg, "detector", "tracking", "smoothing", "browser")
    if cfg.source == "browser":
        gc.enable()
        from fer.stream.browser import page

        page.serve(cfg)
        return

    from fer.stream.batch import films_of
    from fer.stream.stats import Stats

    load = cache(partial(_load, cfg))
    if films := films_of(cfg.source):
        _run_batch(cfg, films, load)
    else:
        _run_one(cfg, cfg.source, cfg, load, Stats())


def _load(cfg: DictConfig) -> "Recognizer":
    from fer.stream.recognizer import Recognizer, limit_threads

    settings = {name: cfg[name] for name in ("trust", "device", "threads", "tracking", "smoothing", "baseline")}
    detector = cfg.detector if cfg.blur is None else {**cfg.detector, "skip_still": False}
    recognizer = Recognizer(cfg.artifact, detector=detector, **settings)
    limit_threads(cfg.threads)
    gc.enable()
    return recognizer


def _run_one(
    cfg: DictConfig,
    path: Any,
    outputs: Mapping[str, Any],
    load: Callable[[], "Recognizer"],
    stats: "Stats",
    short: bool = False,
) -> None:
    """Run one source. `short`: it is one film of several, without a window, and summarised in a line."""
    from fer.stream.draw.blur import Blur
    from fer.stream.sinks import Context, open_sinks
    from fer.stream.sinks.collect import Collector
    from fer.stream.sinks.retrain import Retraining
    from fer.stream.sinks.window import Window, wants_window
    from fer.stream.sources import open_source

    blur = Blur(cfg.blur, {**cfg.detector, "threads": cfg.threads}) if cfg.blur is not None else None
    with open_source(path, cfg.threads, cfg.retry_for) as source:
        if blur and not short and (note := blur.check(source.live, cfg.every)):
            print(note, file=sys.stderr)
        if source.still and cfg.baseline is not None:
            raise ConfigError(
                f"baseline={cfg.baseline} does not fit {source.name}: pictures have no time; leave it out"
            )
        context = Context(source, stats=stats, threads=cfg.threads)
        sinks = open_sinks(outputs, context, cfg.artifact)
        view = wants_window(cfg.view, context) and not short

        from fer.stream import pipeline
        from fer.stream.faces.missing import Samples
        from fer.stream.summary import summarised

        recognizer = load()
        context.classes, context.model = recognizer.classes, recognizer.model
        if view:  # last, so that the other sinks already have the frame on which it is closed
            metadata = recognizer.classify.metadata
            collector = cfg.collect and Collector(expand(cfg.collect), metadata.crop_margin, metadata.input_size)
            snapshots = cfg.snapshots and expand(cfg.snapshots)

            def use(model: Path) -> None:
                recognizer.use(model)
                context.model = recognizer.model

            runs = Path("runs/own_faces_quick")
            training = Retraining(expand(cfg.collect), runs, use) if collector else None
            sinks.append(Window(source.name, source.still, snapshots, collector, training))
        every = 1 if blur else cfg.every
        results = recognizer.stream(source, every=every, max_frames=cfg.max_frames, stats=stats)
        samples = Samples(source.still)
        results = samples.over(results)
        if blur:
            results = blur.over(results, source.live)
        with summarised(context, short) as advance:
            pipeline.run(results, sinks, stats, advance)
            if why := samples.why(cfg.detector, stats):
                source.notes.insert(0, f"{source.name}: {why}")


def _run_batch(cfg: DictConfig, films: list[Path], load: Callable[[], "Recognizer"]) -> None:
    """Run each film of a folder or pattern. Those that cannot be read are counted, and the others go on."""
    if cfg.view == "window":
        raise ConfigError("view=window shows one film, not several; give source=<one film>, or leave view= out")
    from fer.stream.batch import left_out, outputs_of
    from fer.stream.draw.blur import Blur
    from fer.stream.stats import Stats
    from fer.stream.summary import show_table, warn

    if cfg.blur is not None and (note := Blur(cfg.blur, cfg.detector).check(False, cfg.every)):
        print(note, file=sys.stderr)
    batch = zip(films, outputs_of(cfg, films), strict=True)
    total, notes, read, failed = Stats(), left_out(cfg.source, films), 0, 0
    try:
        for film, outputs in batch:
            stats = Stats()
            try:
                _run_one(cfg, str(film), outputs, load, stats, short=True)
                read += 1
            except SourceError as error:
                failed += 1
                warn([str(error)])
            finally:
                total.add(stats)
    finally:
        warn(notes)
        if total.frames:
            show_table(f"{cfg.source}, {read} of {len(films)} films", load().model, total, load().classes, ())
    if failed:
        raise SourceError(f"{failed} of {len(films)} films could not be read to the end; the warnings above say why")


_PATHS = ("source", "artifact", "save", "log", "stats", "timeline", "report", "collect", "snapshots")

_program = program("infer", run, positional="source", paths=_PATHS)


def main() -> None:
    """Run the program, until the model is loaded without garbage collection: what importing makes stays."""
    gc.disable()
    try:
        _program()
    finally:
        gc.enable()


if __name__ == "__main__":
    main()
