"""Both modules through the Trainer against plain PyTorch loops on the same batches."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_loops import SHORT, fit, phases_of, plain_loop
from planned import plan_of
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from deepsad_pl.experiment.build import load_data
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import lr_at
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.hypersphere import away_from_zero, center_mask
from deepsad_pl.training.trainer import CollapseCheck, has_collapsed


@pytest.mark.parametrize("eta_scale", ["fixed", "initial"])
def test_twenty_steps_of_deep_sad_equal_a_plain_loop(eta_scale: str, tmp_path: Path) -> None:
    settings = ("method.eta=2", f"method.eta_scale={eta_scale}", "method.weight_decay=0.01")
    plan = plan_of("pretrain=none", *settings, *[s for s in SHORT if "pret" not in s])
    source = load_data(plan)
    (ours,), (theirs,) = phases_of(plan, source), phases_of(plan, source)
    losses = fit(ours.module, ours.data, tmp_path)

    encoder = theirs.module.encoder.eval()
    loader = theirs.data.train_dataloader()
    kept = [encoder(x)[semi_y != -1] for x, semi_y, _, _ in loader]
    with torch.no_grad():
        center = torch.cat(kept).mean(dim=0)
    center = torch.tensor([(-0.1 if c < 0 else 0.1) if abs(c) < 0.1 else c for c in center.tolist()])
    assert torch.allclose(ours.module.center, center, atol=1e-6)
    # The unit is that of the first epoch's batches, as training sees them.
    as_trained, batches = copy.deepcopy(encoder).train(), ((x, semi_y) for x, semi_y, _, _ in loader)
    distances2 = [float(((z - center) ** 2).sum()) for x, semi_y in batches for z in as_trained(x)[semi_y != -1]]
    unit = sum(distances2) / len(distances2) if eta_scale == "initial" else 1.0
    assert float(ours.module.eta_unit) == pytest.approx(unit, rel=1e-5)

    def loss(x: Tensor, semi_y: Tensor) -> Tensor:
        total = torch.tensor(0.0)
        for d2, label in zip(((encoder(x) - center) ** 2).sum(dim=1), semi_y, strict=True):
            total = total + (d2 if label == 0 else 2 * (d2 if label == 1 else unit**2 / (d2 + 1e-6)))
        return total / len(x)

    expected = plain_loop(theirs.module, theirs.data, loss)
    assert len(losses) == 20
    assert losses == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for a, b in zip(ours.module.encoder.parameters(), encoder.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_twenty_steps_of_the_autoencoder_equal_a_plain_loop(tmp_path: Path) -> None:
    plan = plan_of("method=autoencoder", "method.weight_decay=0.01", *[s for s in SHORT if "pret" not in s])
    source = load_data(plan)
    (ours,), (theirs,) = phases_of(plan, source), phases_of(plan, source)
    losses = fit(ours.module, ours.data, tmp_path)
    network = theirs.module.reconstruct
    expected = plain_loop(theirs.module, theirs.data, lambda x, _: torch.nn.functional.mse_loss(network(x), x))
    assert len(losses) == 20
    assert losses == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for a, b in zip(ours.module.parameters(), theirs.module.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("center_from", ["unlabeled_and_normal", "all", "labeled_normal"])
def test_center_is_the_mean_of_the_chosen_samples(center_from: str, tmp_path: Path) -> None:
    plan = plan_of("pretrain=none", f"method.center_from={center_from}", "method.epochs=[1,0]", "scenario.gamma_n=0.2")
    (phase,) = phases_of(plan, load_data(plan))
    encoder = phase.module.encoder.eval()
    labels = {"all": (-1, 0, 1), "labeled_normal": (1,), "unlabeled_and_normal": (0, 1)}[center_from]
    rows = []
    with torch.no_grad():
        for x, semi_y, _, _ in phase.data.train_dataloader():
            rows += [encoder(x[i : i + 1])[0] for i in range(len(x)) if int(semi_y[i]) in labels]
    expected = away_from_zero(torch.stack(rows).double().mean(dim=0)).float()
    fit(phase.module, phase.data, tmp_path, 1)
    assert torch.allclose(phase.module.center, expected, atol=1e-6)


def test_the_unit_leaves_out_known_anomalies_only_and_the_running_statistics_alone(tmp_path: Path) -> None:
    settings = ("method.center_from=labeled_normal", "method.eta_scale=initial", "scenario.gamma_n=0.2")
    plan = plan_of("pretrain=none", "method.epochs=[1,0]", *settings)
    (phase,) = phases_of(plan, load_data(plan))
    module, loader = phase.module, phase.data.train_dataloader()
    before = {key: tensor.clone() for key, tensor in module.encoder.state_dict().items()}
    module.prepare(lambda: iter(loader))
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.encoder.state_dict().items())
    as_trained = copy.deepcopy(module.encoder).train()
    with torch.no_grad():
        kept = torch.cat([as_trained(x)[semi_y != -1] for x, semi_y, _, _ in loader])
    assert float(module.eta_unit) == pytest.approx(float(((kept - module.center) ** 2).sum(dim=1).mean()), rel=1e-5)


def test_without_distances_there_is_no_unit() -> None:
    plan = plan_of("pretrain=none", "method.eta_scale=initial")
    (phase,) = phases_of(plan, load_data(plan))
    module, loader = phase.module, phase.data.train_dataloader()
    for parameter in module.encoder.parameters():
        parameter.data.zero_()
    module.set_center(iter(loader))
    module.center.zero_()
    with pytest.raises(ValueError, match="every sample lies on the center"):
        module.prepare(lambda: iter(loader))


def test_center_mask_leaves_labeled_anomalies_out() -> None:
    semi_y = torch.tensor([0, 1, -1])
    assert center_mask(semi_y, "unlabeled_and_normal").tolist() == [True, True, False]


def test_coordinates_near_zero_move_to_a_tenth() -> None:
    center = torch.tensor([0.0, -0.0, 0.05, -0.05, 0.1, -0.1, 0.5, -2.0])
    assert away_from_zero(center).tolist() == pytest.approx([0.1, 0.1, 0.1, -0.1, 0.1, -0.1, 0.5, -2.0])


def test_training_never_moves_the_center(tmp_path: Path) -> None:
    plan = plan_of("pretrain=none", "method.epochs=[1,0]")
    (phase,) = phases_of(plan, load_data(plan))
    fit(phase.module, phase.data, tmp_path, 1)
    center = phase.module.center.clone()
    fit(phase.module, phase.data, tmp_path, 1)
    assert torch.equal(phase.module.center, center)
    assert "center" in phase.module.state_dict()
    assert "center" not in dict(phase.module.named_parameters())


def test_a_center_without_samples_is_an_error(tmp_path: Path) -> None:
    plan = plan_of("pretrain=none", "method.center_from=labeled_normal", "scenario.gamma_n=0.1")
    (phase,) = phases_of(plan, load_data(plan))
    phase.data._semi_y.clamp_(max=0)
    with pytest.raises(ValueError, match="no training sample of that kind"):
        fit(phase.module, phase.data, tmp_path, 1)


def test_the_network_starts_from_every_tensor_of_the_encoder() -> None:
    pretrain, method = phases_of(plan := plan_of(), load_data(plan))
    for tensor in pretrain.module.state_dict().values():
        tensor.add_(1)
    method.module.start_from(pretrain.module)
    theirs, ours = pretrain.module.encoder.state_dict(), method.module.encoder.state_dict()
    assert theirs.keys() == ours.keys()
    assert len(theirs) > 3
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_missing_tensor_stops_the_transfer() -> None:
    pretrain, _ = phases_of(plan := plan_of(), load_data(plan))
    (other,) = phases_of(plan := plan_of("pretrain=none", "dataset.network.dense=[64,32]"), load_data(plan))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.module.start_from(pretrain.module)


def test_ground_truth_changes_no_bit_of_training(tmp_path: Path) -> None:
    plan = plan_of("pretrain=none", "method.epochs=[2,0]", "scenario.gamma_p=0.1")
    states = []
    for scramble in (False, True):
        (phase,) = phases_of(plan, load_data(plan))
        if scramble:
            phase.data._y = 1 - phase.data._y
        fit(phase.module, phase.data, tmp_path, 2)
        states.append(phase.module.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_each_phase_has_its_learning_rate() -> None:
    rates = [lr_at(epoch, [1e-4, 1e-5], [2, 3]) for epoch in range(6)]
    assert rates == [1e-4, 1e-4, 1e-5, 1e-5, 1e-5, 1e-5]


def test_schedule_reaches_the_optimizer(tmp_path: Path) -> None:
    seen: list[float] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    plan = plan_of("pretrain=none", "method.lr=[1e-3,1e-4]", "method.epochs=[1,2]", "method.batch_size=200")
    (phase,) = phases_of(plan, load_data(plan))
    fit(phase.module, phase.data, tmp_path, 3, Watch())
    assert seen == [1e-3, 1e-4, 1e-4]


def test_autoencoder_score_is_the_mean_squared_error() -> None:
    module = AutoencoderModule({"name": "mlp", "in_features": 4, "units": [3, 2]}, sigmoid=False).eval()
    x = torch.randn(5, 4)
    assert torch.allclose(module.score(x), ((module.reconstruct(x) - x) ** 2).mean(dim=1))


def test_deep_sad_score_is_the_distance_to_the_center() -> None:
    module = DeepSADModule({"name": "mlp", "in_features": 4, "units": [3, 2]}).eval()
    module.center.copy_(torch.tensor([1.0, -1.0]))
    x = torch.randn(5, 4)
    assert torch.allclose(module(x), torch.linalg.vector_norm(module.encoder(x) - module.center, dim=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": 0.0}, "eta is 0.0"),
        ({"center_from": "nowhere"}, "center_from is 'nowhere'"),
        ({"lr": [1.0]}, "same number"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepSADModule({"name": "mlp", "in_features": 4, "units": [2]}, **arguments)


def test_cross_entropy_needs_a_sigmoid() -> None:
    with pytest.raises(ValueError, match="do not lie in"):
        AutoencoderModule({"name": "mlp", "in_features": 4, "units": [2]}, sigmoid=False, loss="cross_entropy")


def test_a_collapse_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = plan_of("pretrain=none", "method.epochs=[1,0]", "method.batch_size=200")
    (phase,) = phases_of(plan, load_data(plan))
    check = CollapseCheck("fit")

    class Collapse(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            for parameter in pl_module.parameters():
                parameter.data.zero_()

    fit(phase.module, phase.data, tmp_path, 1, Collapse(), check)
    assert check.initial > 0
    assert check.final == 0
    assert "collapsed" in caplog.text


def test_a_healthy_training_reports_no_collapse(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = plan_of("pretrain=none", "method.epochs=[2,0]")
    (phase,) = phases_of(plan, load_data(plan))
    check = CollapseCheck("fit")
    fit(phase.module, phase.data, tmp_path, 2, check)
    assert not has_collapsed(check.initial, check.final)
    assert caplog.text == ""


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    plan = plan_of("pretrain=none", "method.epochs=[1,0]")
    (phase,) = phases_of(plan, load_data(plan))
    with torch.no_grad():
        next(phase.module.parameters()).fill_(float("nan"))
    from deepsad_pl.common.errors import DeepSADError

    with pytest.raises(DeepSADError, match="loss is nan"):
        fit(phase.module, phase.data, tmp_path, 1)
