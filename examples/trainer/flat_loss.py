"""A Lightning callback of one's own, for ``trainer.callbacks``: it ends a training whose loss hardly falls any more."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class StopWhenFlat(Callback):
    """Stops after the first epoch in which ``train_loss`` has fallen by less than a share of its value before.

    Args:
        share: least relative decrease of an epoch, in [0, 1].
    """

    def __init__(self, share: float = 0.01) -> None:
        self.share = share
        self.before = float("inf")

    def state_dict(self) -> dict[str, Any]:
        """The last loss, which a resumed training goes on with."""
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the last loss from a checkpoint."""
        self.before = state_dict["before"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch's loss with the one before."""
        loss = float(trainer.callback_metrics["train_loss"])
        if loss > (1 - self.share) * self.before:
            trainer.should_stop = True
        self.before = loss
