"""The page, built with Gradio. Imported only when it is served."""

import json
import secrets
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import route_utils
from omegaconf import DictConfig

from fer.errors import FerError, SourceError
from fer.labels import colours
from fer.stream.browser import uploads
from fer.stream.browser.viewers import Viewers
from fer.stream.draw.blur import Blur
from fer.stream.recognizer import Recognizer, limit_threads

_HERE = Path(__file__).parent
_PROGRESS = gr.Progress()


def build(cfg: DictConfig, folder: Path) -> gr.Blocks:
    """Load the model and build the page. Uploads and results go into `folder`. Raises `ArtifactError`."""
    settings = {name: cfg[name] for name in ("trust", "device", "threads", "tracking", "smoothing", "baseline")}
    # Uploads may be blurred, which needs each frame to be searched.
    recognizer = Recognizer(cfg.artifact, detector={**cfg.detector, "skip_still": False}, **settings)
    limit_threads(cfg.threads)
    blur = partial(Blur, cfg.blur, {**cfg.detector, "threads": cfg.threads}) if cfg.blur else None
    viewers, handler = Viewers(recognizer, every=cfg.every, blur=blur), Uploads(recognizer, folder, cfg)
    tints = json.dumps(colours(recognizer.classes))
    blurred = json.dumps(blur is not None)
    script = f"const COLOURS = {tints}, HIDDEN = {blurred};\n{(_HERE / 'live.js').read_text()}"

    def recognize(request: dict[str, str]) -> dict[str, Any]:  # Gradio takes no methods
        return viewers.recognize(request)

    def disconnect(viewer: str) -> None:
        viewers.disconnect(viewer)

    # A page may not report that it was closed; its results are deleted after 600 seconds
    with gr.Blocks(title="Facial emotions", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.Markdown("# Facial emotions\nNothing leaves the computer that serves this page.")
        with gr.Tab("Camera"):
            template = (_HERE / "camera.html").read_text()
            gr.HTML(html_template=template, js_on_load=script, server_functions=[recognize, disconnect], elem_id="live")
        with gr.Tab("Upload"):
            gr.Markdown(
                f"A picture or a video of up to {cfg.browser.max_mb} MB and {cfg.browser.max_seconds} seconds. It is "
                "deleted as soon as it is processed; the results are deleted when you close the page."
            )
            upload = gr.File(label="Picture or video", height=150, elem_id="upload")
            button = gr.Button("Read the emotions", variant="primary", elem_id="read")
            outputs = [
                gr.Markdown(elem_id="words"),
                gr.Image(label="Result", visible=False, buttons=[], elem_id="picture", height=420),
                gr.Video(label="Result", visible=False, buttons=[], elem_id="video", height=420),
                gr.Image(label="Timeline", visible=False, buttons=[], elem_id="timeline"),
                gr.Files(label="Downloads", visible=False, interactive=False, elem_id="files"),
                upload,
            ]
            queue: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "uploads"}  # the page shows its place
            button.click(handler.process, upload, outputs, api_visibility="private", **queue)
            # docs/share.md shows other programs how to call it: its name and its values stay as they are
            hidden = (
                gr.File(label="file", visible=False),
                gr.JSON(label="recognized", visible=False),
                gr.Files(label="files", visible=False),
            )
            gr.Button(visible=False).click(handler.recognize, hidden[0], [*hidden[1:]], api_name="recognize", **queue)
        page.unload(handler.delete)
    return page


def launch(page: gr.Blocks, cfg: DictConfig) -> None:
    """Start serving the page, in a background thread."""
    user, _, password = str(cfg.browser.password or "").partition(":")
    route_utils.GradioUploadFile = _Upload  # type: ignore[misc]  # Gradio has no option for the path of an upload
    page.queue(default_concurrency_limit=2, max_size=16)
    page.launch(
        server_name=str(cfg.browser.host),
        server_port=cfg.browser.port,
        auth=(user, password) if user else None,
        max_file_size=f"{cfg.browser.max_mb}mb",
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=(_HERE / "page.css").read_text(),
        footer_links=["settings"],  # light or dark
        run_history=False,
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        num_workers=0,  # workers would be processes that survive a kill
        quiet=True,
        prevent_thread_lock=True,
    )


class _Upload(route_utils.GradioUploadFile):
    """An upload with a path of its own. Gradio names them by content: of two equal ones, the first deletes both."""

    def __init__(self, *values: Any, **options: Any) -> None:
        super().__init__(*values, **options)
        self.sha.update(secrets.token_bytes(16))


class Uploads:
    """Handlers of the upload tab. The results of each page are in a folder of its own."""

    def __init__(self, recognizer: Recognizer, folder: Path, cfg: DictConfig) -> None:
        self._recognizer, self._folder, self._cfg = recognizer, folder / "results", cfg

    def process(self, path: str | None, request: gr.Request, progress: gr.Progress = _PROGRESS) -> list[Any]:
        """Process an upload and return the new values of the tab's outputs."""
        self.delete(request)  # the results before
        try:
            summary, paths = self._process(path, request, progress)
        except FerError as error:
            return _outputs(f"**{error}**")
        result, timeline = paths["save"], paths.get("timeline")
        return _outputs(summary, (None, result, timeline) if timeline else (result, None, None), paths.values())

    def recognize(self, path: str | None, request: gr.Request, progress: gr.Progress = _PROGRESS) -> list[Any]:
        """Process the upload of another program: a summary with the rows of the log, and the files."""
        try:
            summary, paths = self._process(path, request, progress)
        except FerError as error:
            raise gr.Error(str(error), print_exception=False) from None
        rows = [json.loads(row) for row in paths["log"].read_text(encoding="utf-8").splitlines()]
        return [{"summary": summary, "rows": rows}, [str(path) for path in paths.values()]]

    def _process(self, path: str | None, request: gr.Request, progress: gr.Progress) -> tuple[str, dict[str, Path]]:
        """Process an upload as `uploads.process` does. Raises `SourceError`, which does not tell the path."""
        if not path:
            raise SourceError("Choose a picture or a video first.")
        folder = self._folder_of(request) / secrets.token_urlsafe(16)  # part of the address of the results
        folder.mkdir(parents=True)
        upload = folder / f"upload{Path(path).suffix.lower()}"
        try:
            shutil.move(path, upload)
            limit, blur = self._cfg.browser.max_seconds, self._cfg.blur
            return uploads.process(upload, folder, self._recognizer, limit, blur, partial(progress, desc="reading"))
        except FileNotFoundError:  # in a long queue
            raise SourceError("the file waited for more than ten minutes and was deleted; upload it again") from None
        except FerError as error:
            shutil.rmtree(folder)  # files that were written before the error
            raise SourceError(str(error).replace(str(upload), "the file").replace(upload.name, "the file")) from None
        finally:
            upload.unlink(missing_ok=True)

    def delete(self, request: gr.Request) -> None:
        """Delete the results of a page."""
        shutil.rmtree(self._folder_of(request), ignore_errors=True)

    def _folder_of(self, request: gr.Request) -> Path:
        return self._folder / ("".join(c for c in str(request.session_hash) if c.isalnum()) or "none")


def _outputs(text: str, views: Sequence[Path | None] = (None,) * 3, files: Iterable[Path] = ()) -> list[Any]:
    """Values of the outputs: text, picture, video, timeline, files, and an empty upload."""
    shown = [gr.update(value=view and str(view), visible=view is not None) for view in views]
    paths = [str(path) for path in files]
    return [text, *shown, gr.update(value=paths, visible=bool(paths)), None]
