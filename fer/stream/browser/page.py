"""The browser page: one's own camera, and uploads. Gradio, on this computer alone unless it is told otherwise."""

import ipaddress
import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from fer.errors import ConfigError, FerError, SinkError
from fer.files import expand

if TYPE_CHECKING:
    import gradio

    from fer.stream.browser.viewers import Models, Viewers

_HERE = Path(__file__).parent
_WEIGHTS = _HERE.parents[1] / "weights"

_KEPT = 600
"""Seconds that results wait to be downloaded, where a page does not say that it closes."""

_LIVE = """
<div class="fer-live">
  <div class="fer-stage"><video playsinline muted></video><canvas></canvas></div>
  <div class="fer-bar"><button type="button">Start the camera</button><span class="fer-note"></span></div>
  <div class="fer-people"></div>
</div>
"""

_CSS = """
.fer-live { --shape: 1.5; }
.fer-stage { position: relative; max-width: min(860px, calc(60vh * var(--shape))); aspect-ratio: var(--shape);
  margin: 0 auto; border-radius: 12px; overflow: hidden; background: #101215; }
.fer-stage video { width: 100%; height: 100%; object-fit: contain; transform: scaleX(-1); }
.fer-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.fer-bar { display: flex; flex-wrap: wrap; align-items: center; gap: 12px; max-width: 860px; margin: 12px auto; }
.fer-bar button { padding: 8px 18px; border-radius: 8px; border: 0; cursor: pointer; font-weight: 600;
  background: var(--button-primary-background-fill); color: var(--button-primary-text-color); }
.fer-note { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.fer-people { display: flex; flex-wrap: wrap; gap: 12px; max-width: 860px; margin: 0 auto; }
.fer-card { flex: 1 1 220px; max-width: 420px; padding: 12px; border-radius: 10px;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.fer-row { display: grid; grid-template-columns: 72px 1fr 48px; gap: 8px; align-items: center; font-size: 14px; }
.fer-row > i { height: 8px; border-radius: 4px; background: var(--border-color-primary); overflow: hidden; }
.fer-row > i > i { display: block; height: 100%; border-radius: 4px; }
.fer-row span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
"""


def check(cfg: DictConfig) -> None:
    """Raises `ConfigError` where the values for the browser cannot work, before anything is loaded."""
    for name in ("save", "log", "stats", "timeline", "report"):
        if cfg[name] is not None:
            raise ConfigError(f"{name}= does not go with source=browser; the page itself offers what to keep")
    if cfg.blur is not None:
        from fer.stream.draw.blur import Blur

        Blur(cfg.blur)
    browser = cfg.browser
    for name, most in (("max_mb", 100_000), ("max_seconds", 100_000), ("port", 65535)):
        value = browser[name]
        if type(value) is not int or not 1 <= value <= most:
            raise ConfigError(f"browser.{name}={value} cannot work; give a whole number from 1 to {most}")
    if browser.password is not None and not all(str(browser.password).partition(":")[::2]):
        raise ConfigError("browser.password must be user:password, as in browser.password=me:secret")
    if browser.password is None and not _is_loopback(str(browser.host)):
        raise ConfigError(
            f"browser.host={browser.host} lets others in; set browser.password=user:password too, or leave 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def serve(cfg: DictConfig) -> None:
    """Show the page until Ctrl-C, as `conf/infer.yaml` says.

    Uploads and results lie in a temporary folder that is removed at the end. Raises `ConfigError`, `ArtifactError`,
    `SinkError` where the port is taken, and `KeyboardInterrupt`.
    """
    check(cfg)
    _free(str(cfg.browser.host), int(cfg.browser.port))
    folder = Path(tempfile.mkdtemp(prefix="fer_browser_"))
    # Before Gradio is imported, which reads them then.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    os.environ |= {"GRADIO_TEMP_DIR": str(folder)}
    try:
        try:
            import gradio as gr
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise ConfigError('source=browser needs Gradio; pip install -e ".[browser]"') from None
        from fer.stream.browser.viewers import Viewers

        models = _models(cfg)
        models[None]  # what cannot be loaded is told at once
        page = _page(gr, cfg, models, Viewers(models), folder)
        try:
            _launch(gr, page, cfg)
            print(
                f"open http://{_shown(str(cfg.browser.host))}:{cfg.browser.port} in a browser; Ctrl-C ends it",
                flush=True,
            )
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _launch(gr: Any, page: "gradio.Blocks", cfg: DictConfig) -> None:
    fonts = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    user, _, password = str(cfg.browser.password or "").partition(":")
    page.queue(default_concurrency_limit=2, max_size=16)
    try:
        page.launch(
            server_name=str(cfg.browser.host),
            server_port=int(cfg.browser.port),
            auth=(user, password) if user else None,
            max_file_size=f"{cfg.browser.max_mb}mb",
            theme=gr.themes.Soft(font=fonts[0], font_mono=fonts[1]),
            css=_CSS,
            footer_links=["settings"],  # light or dark
            run_history=False,
            share=False,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            num_workers=0,  # it would be another process, which outlives a kill
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise SinkError(f"cannot listen on {cfg.browser.host}:{cfg.browser.port}: {error}; set browser.port") from None


def _free(host: str, port: int) -> None:
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, ValueError) as error:  # a name that is none is a UnicodeError
        why = getattr(error, "strerror", None) or error
        raise SinkError(f"cannot listen on {host}:{port}: {why}; set another browser.port= or browser.host=") from None


def _shown(host: str) -> str:
    return {"0.0.0.0": socket.gethostname(), "::": socket.gethostname(), "::1": "[::1]"}.get(host, host)


def _models(cfg: DictConfig) -> "Models":
    """The artifact that was asked for, and those that are bundled."""
    from fer.stream.browser.viewers import Models
    from fer.stream.recognizer import Recognizer

    paths = {f"{path.stem} (bundled)": path for path in sorted(_WEIGHTS.glob("*.ts"))}
    if cfg.artifact:
        own = expand(cfg.artifact)
        paths = {own.name: own, **paths}
    settings = {name: cfg[name] for name in ("trust", "device", "threads", "detector", "tracking", "smoothing")}
    return Models(list(paths), lambda name: Recognizer(paths[name], **settings))


def _page(gr: Any, cfg: DictConfig, models: "Models", viewers: "Viewers", folder: Path) -> "gradio.Blocks":
    from fer.labels import COLOURS, OTHER_COLOUR
    from fer.stream.browser import uploads

    def look(asked: dict) -> dict:
        return viewers.look(asked)

    def leave(key: str) -> None:
        viewers.leave(key)

    def read(path: str | None, model: str, request: gr.Request, progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008
        own = _own(folder, request)
        shutil.rmtree(own, ignore_errors=True)
        nothing = gr.update(value=None, visible=False)
        if not path:
            return ["Choose a picture or a film first.", nothing, nothing, nothing, nothing, None]
        work = own / secrets.token_urlsafe(16)  # the folder's name is in the address of what lies in it
        work.mkdir(parents=True)
        upload = work / f"upload{Path(path).suffix.lower()}"
        try:
            shutil.move(path, upload)
            advance = partial(progress, desc="reading")
            made = uploads.answer(upload, work, models[model], cfg.browser.max_seconds, cfg.blur, advance)
        except FileNotFoundError:
            return ["The upload has gone; choose the file again.", nothing, nothing, nothing, nothing, None]
        except FerError as error:
            shutil.rmtree(work, ignore_errors=True)  # what was written until then
            words = str(error).replace(str(upload), "the file").replace(upload.name, "the file")
            return [f"**{words}**", nothing, nothing, nothing, nothing, None]
        finally:
            upload.unlink(missing_ok=True)
        views = [made.picture, made.film, made.timeline]
        files = [str(path) for path in (made.log, made.timeline, made.picture or made.film) if path]
        shown = [gr.update(value=str(view), visible=True) if view else nothing for view in views]
        return [made.words, *shown, gr.update(value=files, visible=True), None]

    def gone(request: gr.Request) -> None:
        shutil.rmtree(_own(folder, request), ignore_errors=True)

    script = f"const COLOURS = {json.dumps({**COLOURS, '': OTHER_COLOUR})};\n{(_HERE / 'live.js').read_text()}"
    hidden = {"api_visibility": "private"}
    with gr.Blocks(title="Facial emotions", analytics_enabled=False, delete_cache=(60, _KEPT)) as page:
        gr.Markdown("# Facial emotions\nNothing leaves the computer that this page comes from.")
        model = gr.Dropdown(models.names, value=models.names[0], label="Model", visible=len(models.names) > 1)
        model.change(None, model, None, js="(name) => { window.ferModel = name; }", **hidden)
        with gr.Tab("Camera"):
            gr.HTML(html_template=_LIVE, js_on_load=script, server_functions=[look, leave], elem_id="live")
        with gr.Tab("Upload"):
            gr.Markdown(
                f"A picture or a film of up to {cfg.browser.max_mb:g} MB and {cfg.browser.max_seconds:g} seconds. "
                "It is deleted once it is read; what you get is deleted when you close the page."
            )
            types = [*uploads.PICTURES, *uploads.FILMS]
            upload = gr.File(label="Picture or film", file_types=types, height=150, elem_id="upload")
            button = gr.Button("Read the emotions", variant="primary", elem_id="read")
            words = gr.Markdown(elem_id="words")
            picture = gr.Image(label="Result", visible=False, buttons=[], elem_id="picture", height=420)
            film = gr.Video(label="Result", visible=False, buttons=[], elem_id="film", height=420)
            timeline = gr.Image(label="Timeline", visible=False, buttons=[], elem_id="timeline")
            files = gr.Files(label="To keep", visible=False, interactive=False, elem_id="files")
            outputs = [words, picture, film, timeline, files, upload]
            button.click(read, [upload, model], outputs, concurrency_limit=1, **hidden)
        page.unload(gone)
    return page


def _own(folder: Path, request: Any) -> Path:
    """Where the results of one page lie."""
    name = "".join(c for c in str(request.session_hash) if c.isalnum())
    return folder / "results" / (name or "nobody")
