"""M1, M2 and M1+M2 against slow loops over samples, and through the Trainer."""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from planned import plan_of
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from deepsad_pl.common.metrics import detection_metrics
from deepsad_pl.data.batch_loader import BatchLoader
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.noise import noise_generator
from deepsad_pl.methods.ss_dgm import SSDGMModule
from deepsad_pl.methods.vae import GenerativeMethod, VAEModule
from deepsad_pl.networks.generative import Decoder, GaussianEncoder, PerClassLinear, input_width
from deepsad_pl.training.trainer import EpochCheckpoint, LossRecorder, make_trainer

TABLE = {"name": "mlp", "in_features": 6, "units": [5, 3]}
IMAGE = {"name": "lenet", "in_shape": [1, 8, 8], "filters": [4], "dense": [8]}
M1 = {"hidden": [7, 6], "latent": 4}
# Widths of x, phi and M1.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
    "m2_table": ("gaussian", TABLE, None),
    "m2_image": ("bernoulli", IMAGE, None),
    "m1m2_image": ("bernoulli", IMAGE, M1),
}
LABELS = {
    "mixed": [0, 1, -1, 0, 0, -1],
    "unlabeled": [0] * 6,
    "labeled": [1, -1, 1, 1, -1, -1],
    "anomalies": [-1] * 6,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def ss_dgm(kind: str = "m1m2_image", init: int = 0, **kwargs: Any) -> SSDGMModule:
    likelihood, network, m1 = KINDS[kind]
    arguments = {"hidden": [7, 5], "latent": 3, "labeled_share": 0.1, "lr": [5e-3, 1e-3], "epochs": [2, 2], **kwargs}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init)
        return SSDGMModule(network, likelihood=likelihood, m1=m1, **arguments)


def vae(kind: str = "m1m2_image", init: int = 1, **kwargs: Any) -> VAEModule:
    likelihood, network, _ = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init)
        return VAEModule(network, likelihood=likelihood, **M1, **{"lr": [5e-3, 1e-3], "epochs": [2, 2], **kwargs})


def samples(kind: str, count: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if KINDS[kind][1] is TABLE:
        return torch.randn(count, 6, generator=generator)
    return torch.rand(count, 1, 8, 8, generator=generator)


def separable(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """300 normal samples and 300 anomalies, far from each other."""
    generator = torch.Generator().manual_seed(seed)
    if KINDS[kind][1] is TABLE:
        noise = torch.randn(600, 6, generator=generator)
        noise[300:] += 2.5
        return noise[:300], noise[300:]
    ramp = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    noise = 0.1 * torch.randn(600, 1, 8, 8, generator=generator)
    return (ramp + noise[:300]).clamp(0, 1), (ramp.flip(2) + noise[300:]).clamp(0, 1)


def training_set(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """280 unlabeled samples, 20 of them anomalies, and 20 labeled anomalies."""
    normals, anomalies = separable(kind, 0)
    x = torch.cat([normals[:260], anomalies[:40]])
    return x, torch.tensor([0] * 280 + [-1] * 20), torch.tensor([0] * 260 + [1] * 40)


class Losses:
    def __init__(self) -> None:
        self.values: list[float] = []

    def losses(self, phase: str, epoch: int, first_step: int, values: Any) -> None:
        self.values += values


@cache
def settings() -> Any:
    return plan_of("trainer=cpu").trainer


def fit(
    module: TrainedMethod, kind: str, path: Path, epochs: int, *callbacks: Callback, resume: Path | None = None
) -> list[float]:
    losses = Losses()
    trainer = make_trainer(settings(), path, epochs, [LossRecorder("fit", losses), *callbacks])
    loader = BatchLoader(*training_set(kind), batch_size=80, seed=3)
    trainer.fit(module, train_dataloaders=loader, ckpt_path=resume, weights_only=True)
    return losses.values


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    return all(torch.equal(a[key], b[key]) for key in a)


def fixed_noise(patch: pytest.MonkeyPatch, module: GenerativeMethod, scale: float) -> list[Tensor]:
    """Let the module draw its usual noise times ``scale``, and append each draw to the list."""
    draw, drawn = module.noise, []

    def noise(*shape: int) -> Tensor:
        drawn.append(scale * draw(*shape))
        return drawn[-1]

    patch.setattr(module, "noise", noise)
    return drawn


def dense(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer.weight @ x + layer.bias


def hidden(layers: nn.Sequential, x: Tensor) -> Tensor:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = F.softplus(dense(layer, x))
    return x


def posterior(encoder: GaussianEncoder, x: Tensor) -> Normal:
    h = hidden(encoder.hidden, x)
    return Normal(dense(encoder.mean, h), dense(encoder.log_var, h).exp().sqrt())


def negative_bound(
    encoder: GaussianEncoder,
    decoder: Decoder,
    x: Tensor,
    noise: Tensor,
    likelihood: str,
    y: int | None,
    anomaly_prior: float = 0.5,
) -> Tensor:
    """L of one sample, shape (D,), by definition; y is appended to the inputs of both networks."""
    label = x.new_zeros(0) if y is None else torch.eye(2, dtype=x.dtype)[y]
    q = posterior(encoder, torch.cat([x, label]))
    out = dense(decoder.out, hidden(decoder.hidden, torch.cat([q.mean + q.stddev * noise, label])))
    p = Normal(out, 1.0) if likelihood == "gaussian" else Bernoulli(logits=out, validate_args=False)
    log_prior = 0.0 if y is None else Bernoulli(torch.tensor(anomaly_prior)).log_prob(torch.tensor(float(y)))
    return kl_divergence(q, Normal(0.0, 1.0)).sum() - p.log_prob(x).sum() - log_prior


def slow_loss(
    module: SSDGMModule, kind: str, x: Tensor, semi_y: Tensor, drawn: list[Tensor], anomaly_prior: float = 0.5
) -> Tensor:
    """Equations (8) and (9), sample by sample and label by label."""
    likelihood, _, m1 = KINDS[kind]
    if m1 is not None:
        assert module.m1 is not None
        likelihood = "gaussian"
        q = [posterior(module.m1, row) for row in x.flatten(1)]
        x = torch.stack([q_.mean + q_.stddev * noise for q_, noise in zip(q, drawn[0], strict=True)])
    logits = module.encoder(x) @ module.head.weight.T + module.head.bias
    losses = []
    for row, of_row, label, noise in zip(x.flatten(1), logits, semi_y.tolist(), drawn[-1], strict=True):
        parts = module.inference, module.decoder, row, noise, likelihood
        bounds = [negative_bound(*parts, y, anomaly_prior) for y in (0, 1)]
        q_y = Categorical(logits=of_row)
        if label == 0:
            losses.append(q_y.probs[0] * bounds[0] + q_y.probs[1] * bounds[1] - q_y.entropy())
        else:
            y = 0 if label == 1 else 1
            losses.append(bounds[y] - 0.1 * (0.9 / 0.1) * q_y.log_prob(torch.tensor(y)))
    return torch.stack(losses)


@every_kind
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_terms_and_gradients_equal_a_loop_over_samples(
    kind: str, labels: str, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = ss_dgm(kind, anomaly_prior="uniform").double(), samples(kind).double()
    semi_y = torch.tensor(LABELS[labels])
    drawn = fixed_noise(monkeypatch, module, scale)
    terms = module.terms(x, semi_y)
    assert terms.shape == (6,)
    assert [tuple(noise.shape) for noise in drawn] == ([(6, 4), (6, 3)] if KINDS[kind][2] else [(6, 3)])
    terms.mean().backward()
    trained = [p for p in module.parameters() if p.requires_grad]
    grads = [p.grad for p in trained]
    expected = slow_loss(module, kind, x, semi_y, drawn)
    assert torch.allclose(terms, expected, rtol=1e-9)
    for ours, theirs in zip(grads, torch.autograd.grad(expected.mean(), trained, allow_unused=True), strict=True):
        assert ours is not None
        assert torch.allclose(ours, torch.zeros_like(ours) if theirs is None else theirs, rtol=1e-7, atol=1e-12)


@every_kind
@pytest.mark.parametrize("prior", [0.05, 0.9])
def test_the_prior_of_anomalies_enters_the_bounds(kind: str, prior: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = ss_dgm(kind, anomaly_prior=prior).double(), samples(kind).double()
    semi_y = torch.tensor(LABELS["mixed"])
    drawn = fixed_noise(monkeypatch, module, 1.0)
    terms = module.terms(x, semi_y)
    assert torch.allclose(terms, slow_loss(module, kind, x, semi_y, drawn, prior), rtol=1e-6)
    assert not torch.allclose(terms, slow_loss(module, kind, x, semi_y, drawn), rtol=1e-4)


def test_a_uniform_prior_is_that_of_one_half() -> None:
    uniform, half = (ss_dgm("m2_table", anomaly_prior=prior).log_prior for prior in ("uniform", 0.5))
    assert uniform == half == (math.log(0.5),) * 2


def test_anomalies_are_rare_by_default() -> None:
    assert ss_dgm("m2_table").log_prior == pytest.approx((math.log(0.95), math.log(0.05)))


@pytest.mark.parametrize("kind", ["m2_table", "m2_image"])
def test_m1_equals_a_loop_over_samples(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = vae(kind), samples(kind)
    drawn = fixed_noise(monkeypatch, module, 1.0)
    terms = module.terms(x, torch.tensor(LABELS["mixed"]))

    def slow(noise: Tensor) -> Tensor:
        parts = (module.encoder, module.decoder)
        rows = zip(x.flatten(1), noise, strict=True)
        return torch.stack([negative_bound(*parts, row, n, KINDS[kind][0], None) for row, n in rows])

    assert torch.allclose(terms, slow(drawn[0]), rtol=1e-5)
    assert torch.allclose(module.score(x), slow(torch.zeros(6, 4)), rtol=1e-5)
    assert torch.allclose(module.represent(x)[2], posterior(module.encoder, x[2].flatten()).mean, atol=1e-6)
    assert len(drawn) == 1
    assert torch.equal(module.score(x), vae(kind, seed=5).score(x))


@every_kind
@pytest.mark.parametrize("labels", LABELS)
def test_every_batch_gives_every_parameter_a_finite_gradient(kind: str, labels: str) -> None:
    module = ss_dgm(kind)
    module.terms(samples(kind), torch.tensor(LABELS[labels])).mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad == (not name.startswith("m1."))
        assert (parameter.grad is None) == name.startswith("m1.")
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_m1_gives_every_parameter_a_finite_gradient() -> None:
    module = vae()
    module.terms(samples("m1m2_image"), torch.zeros(6)).mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


@every_kind
def test_phi_runs_once_on_the_whole_batch(kind: str) -> None:
    module, seen = ss_dgm(kind), []
    module.encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    module.terms(samples(kind), torch.tensor(LABELS["mixed"]))
    assert seen == [6]


@every_kind
def test_the_score_is_the_deterministic_logit_of_anomaly(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = ss_dgm(kind).eval(), samples(kind)
    monkeypatch.setattr(module, "noise", None)
    features = x if module.m1 is None else module.m1(x)[0]
    q = module.head(module.encoder(features)).softmax(dim=1)
    assert torch.allclose(module.score(x), torch.logit(q[:, 1]), atol=1e-5)
    assert torch.equal(module.represent(x), module.encoder(features))
    assert torch.equal(module(x), module.score(x))


@pytest.mark.parametrize("make", [ss_dgm, vae])
def test_losses_are_float32_under_autocast(make: Callable[..., GenerativeMethod]) -> None:
    x, semi_y = samples("m2_image"), torch.tensor(LABELS["mixed"])
    expected, module = make("m2_image").terms(x, semi_y), make("m2_image")
    with torch.autocast("cpu", torch.bfloat16):
        terms, score, representation = module.terms(x, semi_y), module.score(x), module.represent(x)
    assert {tensor.dtype for tensor in (terms, score, representation)} == {torch.float32}
    assert torch.allclose(terms, expected, rtol=0.02)


# The networks.


def test_a_layer_over_all_classes_equals_one_with_onehot_inputs() -> None:
    torch.manual_seed(0)
    layer, x, each = PerClassLinear(5, 4, 3).double(), torch.randn(6, 5).double(), torch.randn(3, 6, 5).double()
    for y in range(3):
        label = torch.eye(3, dtype=torch.float64)[y].expand(6, 3)
        for inputs, of_y in ((x, x), (each, each[y])):
            assert torch.allclose(layer(inputs)[y], F.linear(torch.cat([of_y, label], dim=1), *layer.parameters()))


@pytest.mark.parametrize("classes", [0, 2])
def test_weights_are_glorot_uniform_and_biases_zero(classes: int) -> None:
    torch.manual_seed(0)
    for network in (GaussianEncoder(300, [200], 100, classes), Decoder(100, [200], 300, classes)):
        for name, parameter in network.named_parameters():
            if name.endswith("bias") or name == "log_var.weight":
                assert not parameter.any()
                continue
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert parameter.abs().max().item() == pytest.approx(bound, rel=0.01)
            assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert network.hidden[0].weight.shape == (200, 100 + classes)


def test_an_outlier_starts_with_a_bounded_loss() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 6)
    x[0] = 170.0
    # Its reconstruction costs 6 x 170^2 / 2 = 86,700 nats; the divergence must not add much.
    assert ss_dgm("m2_table").terms(x, torch.zeros(50)).max() < 2e6


def test_the_input_width_is_that_of_a_flat_sample() -> None:
    assert input_width(TABLE) == 6
    assert input_width({"name": "lenet", "in_shape": [3, 32, 32]}) == 3 * 32 * 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labeled_share": 0.0}, "labeled_share is 0.0"),
        ({"labeled_share": 1}, "labeled_share is 1,"),
        ({"anomaly_prior": 1.0}, "anomaly_prior is 1.0; it must be a number > 0 and < 1"),
        ({"anomaly_prior": "rare"}, "anomaly_prior is 'rare'"),
        ({"hidden": []}, "hidden is empty"),
        ({"lr": [1.0]}, "same number"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ss_dgm(**arguments)


def test_an_unknown_likelihood_is_refused() -> None:
    with pytest.raises(ValueError, match="likelihood is 'poisson', but it must be one of bernoulli, gaussian"):
        VAEModule(TABLE, hidden=[3], latent=2, likelihood="poisson")


# Weights from pre-training.


def test_m1_takes_every_tensor_of_the_pretrained_encoder() -> None:
    module, pretrained = ss_dgm(), vae()
    assert module.m1 is not None
    assert not same(module.m1, pretrained.encoder)
    module.start_from(pretrained)
    assert same(module.m1, pretrained.encoder)
    assert not any(parameter.requires_grad for parameter in module.m1.parameters())
    with pytest.raises(RuntimeError, match="size mismatch"):
        module.start_from(VAEModule(IMAGE, hidden=[7, 7], latent=4, likelihood="bernoulli"))


def test_m2_takes_phi() -> None:
    module, pretrained = ss_dgm("m2_image"), AutoencoderModule(IMAGE, sigmoid=True)
    module.start_from(pretrained)
    assert same(module.encoder, pretrained.encoder)
    with pytest.raises(RuntimeError, match="Missing key"):
        module.start_from(vae("m2_image"))


def test_training_changes_no_bit_of_m1(tmp_path: Path) -> None:
    module, pretrained, modes = ss_dgm(weight_decay=0.1), vae(), []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            modes.append((pl_module.encoder.training, pl_module.m1.training))

    module.start_from(pretrained)
    before = deepcopy(module)
    fit(module, "m1m2_image", tmp_path, 2, Watch())
    assert module.m1 is not None
    assert same(module.m1, pretrained.encoder)
    assert set(modes) == {(True, False)}
    for name in ("encoder", "head", "inference", "decoder"):
        assert not same(getattr(module, name), getattr(before, name))


def test_m1_is_never_in_training_mode() -> None:
    module = ss_dgm()
    assert module.m1 is not None
    for mode in (True, False, True):
        assert module.train(mode) is module
        assert (module.encoder.training, module.m1.training) == (mode, False)


# Randomness.


@pytest.mark.parametrize("make", [ss_dgm, vae])
def test_each_epoch_has_its_own_noise_and_learning_rate(make: Callable[..., GenerativeMethod], tmp_path: Path) -> None:
    module, seen = make(seed=4), []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                noise = torch.randn(3, generator=pl_module._generator.clone_state())
                seen.append((trainer.optimizers[0].param_groups[0]["lr"], noise.tolist()))

    fit(module, "m1m2_image", tmp_path, 4, Watch())
    drawn = [torch.randn(3, generator=noise_generator(4, epoch, 0, module.device)).tolist() for epoch in range(4)]
    assert seen == list(zip([5e-3, 5e-3, 1e-3, 1e-3], drawn, strict=True))


def test_noise_depends_on_seed_epoch_and_rank() -> None:
    cpu = torch.device("cpu")
    keys = [(seed, epoch, rank) for seed in range(3) for epoch in range(3) for rank in range(3)]
    first, again = ([torch.randn(4, generator=noise_generator(*key, cpu)) for key in keys] for _ in range(2))
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert len({tuple(noise.tolist()) for noise in first}) == len(keys)


def test_noise_is_not_drawn_from_the_stream_of_the_shuffling() -> None:
    loader = BatchLoader(*(torch.zeros(50) for _ in range(3)), batch_size=5, seed=1)
    loader.set_epoch(2)
    shuffled = torch.randperm(50, generator=noise_generator(1, 2, 0, torch.device("cpu")))
    assert not torch.equal(loader.order(), shuffled)


@pytest.mark.parametrize("make", [ss_dgm, vae])
def test_terms_neither_read_nor_move_the_global_generator(make: Callable[..., GenerativeMethod]) -> None:
    x, semi_y = samples("m1m2_image"), torch.tensor(LABELS["mixed"])
    values = []
    for seed in (1, 2):
        module = make()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        values.append([module.terms(x, semi_y), module.terms(x, semi_y)])
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(values[0][0], values[1][0])
    assert torch.equal(values[0][1], values[1][1])
    assert not torch.equal(values[0][0], values[0][1])
    assert not torch.equal(make(seed=1).terms(x, semi_y), values[0][0])


@pytest.mark.parametrize("make", [ss_dgm, vae])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    make: Callable[..., GenerativeMethod], tmp_path: Path
) -> None:
    modules = []
    for seed, unrelated in ((0, 5), (0, 6), (1, 5)):
        module = make(seed=seed)
        torch.manual_seed(unrelated)
        fit(module, "m1m2_image", tmp_path, 2)
        modules.append(module)
    assert same(modules[0], modules[1])
    assert not same(modules[0], modules[2])


@pytest.mark.parametrize("make", [ss_dgm, vae])
def test_a_resumed_training_ends_with_the_bits_of_an_undisturbed_one(
    make: Callable[..., GenerativeMethod], tmp_path: Path
) -> None:
    path, straight, broken, resumed = tmp_path / "last.ckpt", make(), make(), make(init=9)
    losses = fit(straight, "m1m2_image", tmp_path, 4)
    first = fit(broken, "m1m2_image", tmp_path, 2, EpochCheckpoint(path, 0))
    second = fit(resumed, "m1m2_image", tmp_path, 4, resume=path)
    assert same(straight, resumed)
    assert first + second == losses
    assert len(second) == 8


@every_kind
def test_a_checkpoint_of_plain_types_restores_the_module(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for module in (ss_dgm(kind, seed=4), vae(kind, seed=4)):
        fit(module, kind, tmp_path, 1, EpochCheckpoint(path, 0))
        loaded = type(module).load_from_checkpoint(path, weights_only=True)
        assert same(module, loaded)
        assert loaded.seed == 4
        x = samples(kind)
        assert torch.equal(module.eval().score(x), loaded.eval().score(x))
        assert {**module.hparams} == {**loaded.hparams}


# Results of training.


@every_kind
def test_training_lowers_the_loss_and_finds_the_anomalies(kind: str, tmp_path: Path) -> None:
    schedule = {"lr": [5e-3], "epochs": [30]}
    module = ss_dgm(kind, labeled_share=20 / 300, **schedule)
    if module.m1 is not None:
        pretrained = vae(kind, **schedule)
        losses = fit(pretrained, kind, tmp_path, 30)
        assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
        module.start_from(pretrained)
    losses = fit(module, kind, tmp_path, 30)
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    normals, anomalies = separable(kind, 1)
    with torch.no_grad():
        score = module.eval()(torch.cat([normals, anomalies]))
    y = torch.tensor([0] * 300 + [1] * 300)
    assert detection_metrics(score, y)["auroc"] > 0.97


def test_m1_scores_data_unlike_its_own_higher(tmp_path: Path) -> None:
    module = vae(lr=[5e-3], epochs=[20])
    fit(module, "m1m2_image", tmp_path, 20)
    normals, anomalies = separable("m1m2_image", 1)
    with torch.no_grad():
        score = module.eval()(torch.cat([normals, anomalies]))
    assert detection_metrics(score, torch.tensor([0] * 300 + [1] * 300))["auroc"] > 0.97
