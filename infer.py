"""From a camera, a video or pictures to emotions.

    python infer.py source=clip.mp4 save=out.mp4 log=out.jsonl

`python infer.py --help` lists every key. What is heavy is imported when it is needed, so that help comes at once
and a mistake is told before PyTorch is loaded.
"""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from fer.config import check_groups, program
from fer.errors import ConfigError
from fer.files import expand

if TYPE_CHECKING:
    from fer.stream.recognizer import Recognizer
    from fer.stream.sinks.window import Window
    from fer.stream.sources import Source
    from fer.stream.stats import Stats

PATHS = ("source", "artifact", "save", "log", "stats", "timeline", "report", "collect", "snapshots")


def run(cfg: DictConfig) -> "Stats":
    """Run as `conf/infer.yaml` says; returns what was counted.

    Raises `FerError`, and `KeyboardInterrupt` after all outputs are closed and whole.
    """
    from fer.stream.draw.blur import Blur
    from fer.stream.outputs import Outputs
    from fer.stream.sources import open_source

    blur = Blur(cfg.blur) if cfg.blur is not None else None
    with open_source(cfg.source, cfg.threads, _seconds(cfg.retry_for)) as source:
        outputs = Outputs.of(source, cfg.artifact, cfg.save, cfg.log, cfg.stats, cfg.timeline, cfg.report)
        wants_window = outputs.wants_window(cfg.view)

        from fer.stream import pipeline
        from fer.stream import summary as report
        from fer.stream.recognizer import Recognizer
        from fer.stream.stats import Stats

        recognizer = Recognizer(
            cfg.artifact,
            trust=cfg.trust,
            device=cfg.device,
            threads=cfg.threads,
            detector=cfg.detector,
            tracking=cfg.tracking,
            smoothing=cfg.smoothing,
        )
        stats = Stats()
        model = Path(cfg.artifact).name if cfg.artifact else "the bundled model"
        sinks = outputs.sinks(recognizer.classes, cfg.threads, model, stats)
        if wants_window:  # the last, so that closing it loses nothing
            sinks.append(_window(cfg, source, recognizer))
        results = recognizer.stream(source, every=cfg.every, max_frames=cfg.max_frames, stats=stats)
        if blur:
            results = blur.over(results, source.live)
        try:
            with report.progress(source) as advance:
                pipeline.run(results, sinks, stats, advance)
        except KeyboardInterrupt:
            report.finish(outputs, stats)
            raise
        report.finish(outputs, stats)
    return stats


def _seconds(retry_for: Any) -> float:
    if not isinstance(retry_for, int | float) or isinstance(retry_for, bool) or not 0 <= retry_for <= 1e9:
        raise ConfigError(f"retry_for={retry_for} cannot work; give seconds, from 0 to a billion")
    return float(retry_for)


def _window(cfg: DictConfig, source: "Source", recognizer: "Recognizer") -> "Window":
    from fer.stream.sinks.collect import Collector
    from fer.stream.sinks.window import Window

    metadata = recognizer.classify.metadata
    collector = Collector(expand(cfg.collect), metadata.crop_margin, metadata.input_size) if cfg.collect else None
    return Window(source.name, source.still, expand(cfg.snapshots) if cfg.snapshots else None, collector)


def _start(cfg: DictConfig) -> None:
    # `kill` and `timeout` end a run as Ctrl-C does, with its files whole
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    check_groups(cfg, "detector", "tracking", "smoothing", "browser")
    if cfg.source == "browser":
        from fer.stream.browser import page as browser

        browser.serve(cfg)
    else:
        run(cfg)


main = program("infer", _start, positional="source", paths=PATHS)

if __name__ == "__main__":
    main()
