"""The figures of every epoch, kept in the checkpoint, so that a resumed run has them all, whatever logs it."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from fer.models.classifier import EmotionClassifier

VALIDATED = ("val/loss", "val/accuracy")


class Curves(Callback):
    """`rows`: for each epoch `epoch` (from 1), `train/loss`, `lr`, and of the last validation `VALIDATED`."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EmotionClassifier)
        row = {"epoch": float(trainer.current_epoch + 1), "train/loss": float(pl_module.train_loss.compute())}
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row |= {name: float(trainer.callback_metrics[name]) for name in VALIDATED if name in trainer.callback_metrics}
        self.rows = [earlier for earlier in self.rows if earlier["epoch"] < row["epoch"]] + [row]

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
