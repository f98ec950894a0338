"""From a camera, a video or pictures to emotions.

    python infer.py source=clip.mp4 save=out.mp4 log=out.jsonl

`python infer.py --help` lists every key. What is heavy is imported when it is needed, so that help comes at once
and a mistake is told before PyTorch is loaded.
"""

import io
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from fer.config import check_groups
from fer.errors import ConfigError, hydra_in_one_line, one_line
from fer.files import expand

if TYPE_CHECKING:
    from fer.stream.recognizer import Recognizer
    from fer.stream.sinks.window import Window
    from fer.stream.sources import Source
    from fer.stream.stats import Stats

_CONF = Path(__file__).parent / "conf"
_PATH = re.compile(r"(source|artifact|save|log|stats|timeline|report|collect|snapshots)=(.*)", re.DOTALL)


def for_hydra(arguments: list[str]) -> list[str]:
    """Quote the values of path keys, so that Hydra takes each one just as the shell gave it.

    Spaces, `=`, `&`, commas, quotes, backslashes, brackets and `${` are then part of the path. Integers (a
    camera) as the source, and `null`, stay what they are.
    """
    return [_quoted(argument) for argument in arguments]


def _quoted(argument: str) -> str:
    match = _PATH.fullmatch(argument)
    if not match or match[2] in ("", "null") or re.fullmatch(r"source=-?\d+", argument):
        return argument
    # First for OmegaConf, where a backslash escapes only in front of `${`, then for Hydra, where it escapes
    # only in front of a quote.
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", match[2])
    value = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{match[1]}='{value}'"


def run(cfg: DictConfig) -> "Stats":
    """Run as `conf/infer.yaml` says; returns what was counted.

    Raises `FerError`, and `KeyboardInterrupt` after all outputs are closed and whole.
    """
    from fer.stream.draw.blur import Blur
    from fer.stream.faces.classify import check_threads
    from fer.stream.outputs import Outputs
    from fer.stream.sources import open_source

    check_threads(cfg.threads)
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


@hydra.main(version_base="1.3", config_path=str(_CONF), config_name="infer")
def _composed(cfg: DictConfig) -> None:
    with one_line():
        check_groups(cfg, "detector", "tracking", "smoothing", "browser")
        if cfg.source == "browser":
            from fer.stream.browser import page as browser

            browser.serve(cfg)
        else:
            run(cfg)


def main() -> None:
    """The program: reads `sys.argv`."""
    # `kill` and `timeout` end a run as Ctrl-C does, with its files whole.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a file may hold what the terminal cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.argv[1:] = for_hydra(sys.argv[1:])
    with hydra_in_one_line(_CONF, "infer"):
        _composed()


if __name__ == "__main__":
    main()
