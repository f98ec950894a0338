"""`source=browser`: serve the page, to this computer only unless `browser.host` is set."""

import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

from omegaconf import DictConfig

from fer.checks import check_number
from fer.errors import ConfigError, SinkError
from fer.stream.draw.blur import Blur


def check(cfg: DictConfig) -> None:
    """Check the values of conf/infer.yaml that the browser page uses. Raises `ConfigError`."""
    for name in ("save", "log", "stats", "timeline", "subtitles", "report"):
        if cfg[name] is not None:
            raise ConfigError(f"{name}= does not go with source=browser; leave it out; the page offers downloads")
    Blur(cfg.blur)
    check_number("every", cfg.every, 1, whole=True)
    host, password = str(cfg.browser.host), cfg.browser.password
    for name, high in (("port", 65535), ("max_mb", 100_000), ("max_seconds", 100_000)):
        check_number(f"browser.{name}", cfg.browser[name], 1, high, whole=True)
    if password is not None and not all(str(password).partition(":")[::2]):
        raise ConfigError("browser.password must be user:password, as in browser.password=me:secret")
    if password is None and host not in ("localhost", "127.0.0.1", "::1"):
        raise ConfigError(
            f"browser.host={host} lets other computers connect; set browser.password=user:password, or use 127.0.0.1"
        )


def _check_port(host: str, port: int) -> None:
    """Check that the port can be listened on, before Gradio and the model are loaded."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, ValueError) as error:  # ValueError: a host name that cannot be encoded
        raise SinkError(f"cannot listen on {host}:{port}; set another browser.port= or browser.host=") from error


def serve(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C.

    Uploads and results are in a temporary folder, which is removed at the end.

    Raises:
        ConfigError: A value cannot work, or Gradio is not installed.
        ArtifactError: The model cannot be loaded.
        SinkError: The port cannot be listened on.
    """
    check(cfg)
    if cfg.blur is not None and (note := Blur(cfg.blur).check(live=False, every=cfg.every)):
        print(note, file=sys.stderr)
    _check_port(str(cfg.browser.host), cfg.browser.port)
    with tempfile.TemporaryDirectory(prefix="fer_browser_", ignore_cleanup_errors=True) as folder:
        # Gradio reads these when it is imported
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            from fer.stream.browser import app
        except ModuleNotFoundError as error:
            raise ConfigError(f"source=browser needs {error.name}: pip install 'gradio>=6.31,<7'") from None
        page = app.build(cfg, Path(folder))
        try:
            app.launch(page, cfg)
            host = str(cfg.browser.host)
            shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname(), "::1": "[::1]"}.get(host, host)
            print(f"open http://{shown}:{cfg.browser.port} in a browser; Ctrl-C ends it", flush=True)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
