"""`python infer.py`, `fer-infer` or `python -m fer.stream`: recognize emotions from a camera, a video or pictures.

Heavy modules are imported when needed, so that help appears at once and mistakes are reported before PyTorch is loaded.
"""

import signal
from pathlib import Path

from omegaconf import DictConfig

from fer.config import check_groups, program
from fer.files import expand


def run(cfg: DictConfig) -> None:
    """Run inference. Raise `FerError`, or `KeyboardInterrupt` once all outputs are complete."""
    # `kill` and `timeout` end a run like Ctrl-C, with complete files.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    check_groups(cfg, "detector", "tracking", "smoothing", "browser")
    if cfg.source == "browser":
        from fer.stream.browser import page

        page.serve(cfg)
        return

    from fer.stream.draw.blur import Blur
    from fer.stream.sinks import Context, open_sinks
    from fer.stream.sinks.collect import Collector
    from fer.stream.sinks.window import Window, wants_window
    from fer.stream.sources import open_source

    blur = Blur(cfg.blur) if cfg.blur is not None else None
    with open_source(cfg.source, cfg.threads, cfg.retry_for) as source:
        model = Path(cfg.artifact).name if cfg.artifact else "the bundled model"
        context = Context(source, model=model, threads=cfg.threads)
        sinks = open_sinks(cfg, context, cfg.artifact)
        view = wants_window(cfg.view, context)

        from fer.stream import pipeline
        from fer.stream.recognizer import Recognizer, limit_threads
        from fer.stream.summary import summarised

        settings = {name: cfg[name] for name in ("trust", "device", "detector", "tracking", "smoothing")}
        limit_threads(cfg.threads)
        recognizer = Recognizer(cfg.artifact, **settings)
        context.classes = recognizer.classes
        if view:  # last, so that the other sinks already have the frame on which it is closed
            metadata = recognizer.classify.metadata
            collector = cfg.collect and Collector(expand(cfg.collect), metadata.crop_margin, metadata.input_size)
            sinks.append(Window(source.name, source.still, cfg.snapshots and expand(cfg.snapshots), collector))
        results = recognizer.stream(source, every=cfg.every, max_frames=cfg.max_frames, stats=context.stats)
        if blur:
            results = blur.over(results, source.live)
        with summarised(context) as advance:
            pipeline.run(results, sinks, context.stats, advance)


_PATHS = ("source", "artifact", "save", "log", "stats", "timeline", "report", "collect", "snapshots")

main = program("infer", run, positional="source", paths=_PATHS)

if __name__ == "__main__":
    main()
