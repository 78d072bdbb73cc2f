"""A custom Lightning callback for ``trainer.callbacks``: stops a training whose loss hardly falls any more."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class StopWhenFlat(Callback):
    """Stops after the first epoch in which ``train_loss`` falls by less than a given share.

    Args:
        share: minimum relative decrease per epoch, in [0, 1].
    """

    def __init__(self, share: float = 0.01) -> None:
        self.share = share
        self.before = float("inf")

    def state_dict(self) -> dict[str, Any]:
        """The last loss, which a resumed training needs."""
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the last loss."""
        self.before = state_dict["before"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the loss with that of the previous epoch."""
        loss = float(trainer.callback_metrics["train_loss"])
        if loss > (1 - self.share) * self.before:
            trainer.should_stop = True
        self.before = loss
