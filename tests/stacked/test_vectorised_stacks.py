"""Any method is stacked by vectorizing its own terms, or refused with the reason."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import plan_of
from pytorch_lightning import Callback
from torch import Tensor, nn

from deepsad_pl.experiment.build import Phase, build, load_data
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.classifier import ClassifierModule
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.deep_svdd import DeepSVDDModule, SoftBoundarySVDDModule
from deepsad_pl.methods.devnet import DevNetModule
from deepsad_pl.methods.feawad import FeaWADModule
from deepsad_pl.methods.hsc import HSCModule
from deepsad_pl.methods.loe import LOEModule
from deepsad_pl.methods.prenet import PReNetModule
from deepsad_pl.methods.rosas import RoSASModule
from deepsad_pl.methods.ss_dgm import SSDGMModule
from deepsad_pl.methods.vae import VAEModule
from deepsad_pl.stacked.callbacks import ReplicaCheckpoints
from deepsad_pl.stacked.forms import kind_of
from deepsad_pl.stacked.steps import NotVectorizedError
from deepsad_pl.stacked.training import Training, train_stack
from deepsad_pl.stacked.vectorized import VectorizedObjective
from deepsad_pl.tracking.tracker import NoTracker
from deepsad_pl.training.trainer import CollapseCheck, LossRecorder, make_trainer

MLP = {"name": "mlp", "in_features": 2, "units": [6, 4, 3]}
SIZES = {"hidden": [5], "latent": 2, "likelihood": "gaussian"}
# Three replicas whose batches have three sizes.
SCENARIOS = [(f"scenario.gamma_l={gamma}", f"seed={seed}") for seed, gamma in enumerate((0.02, 0.2, 0.1))]
RATES = ([1e-3], [5e-3], [2e-3])

Make = Callable[..., TrainedMethod]
METHODS: dict[str, tuple[type[TrainedMethod], dict[str, Any]]] = {
    "deep_sad": (DeepSADModule, {}),
    "deep_svdd": (DeepSVDDModule, {}),
    "soft_boundary_svdd": (SoftBoundarySVDDModule, {}),
    "autoencoder": (AutoencoderModule, {"sigmoid": False}),
    "classifier": (ClassifierModule, {}),
    "hsc": (HSCModule, {"anomaly_share": 0.1}),
    "hsc_focal": (HSCModule, {"anomaly_share": 0.1, "loss": "focal"}),
    "devnet": (DevNetModule, {}),
    "loe": (LOEModule, {"expected_share": 0.1, "warmup": 0}),
    "prenet": (PReNetModule, {}),
    "feawad": (FeaWADModule, {"sigmoid": False, "units": [5]}),
    "rosas": (RoSASModule, {}),
    "vae": (VAEModule, SIZES),
    "ss_dgm_m2": (SSDGMModule, {**SIZES, "labeled_share": 0.1}),
    "ss_dgm_m1m2": (SSDGMModule, {**SIZES, "labeled_share": 0.1, "m1": {"hidden": [4], "latent": 2}}),
}
BY_HAND = ("deep_sad", "deep_svdd", "soft_boundary_svdd", "autoencoder")


def with_other_terms(parent: type[TrainedMethod]) -> type[TrainedMethod]:
    class OtherTerms(parent):  # type: ignore[misc, valid-type]
        def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
            terms: Tensor = super().terms(x, semi_y)
            return terms + 0.5 * terms.square()

    return OtherTerms


class FromScratch(TrainedMethod):
    """A network and a loss unknown to the package, with batch norm, a frozen layer and plain tensors."""

    def __init__(self, network: Any = None, *, delta: float = 0.5, averages: bool = True, **schedule: Any) -> None:
        super().__init__(**schedule)
        self.save_hyperparameters()
        self.averages, self.delta, self.weights = averages, delta, (delta, {"of": [1.0, 2 * delta]})
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=False))
        self.tied = self.body[0]
        self.scale = torch.rand(3, dtype=torch.float64)
        self.register_buffer("average", torch.zeros(3))
        self.average: Tensor

    def represent(self, x: Tensor) -> Tensor:
        return self.body(self.frozen(x).tanh())  # type: ignore[no-any-return]

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        z = self.represent(x)
        if self.averages:
            # Replaced, not written into.
            self.average = self.average * 0.9 + 0.1 * z.detach().mean(dim=0)
        pulled = (z * self.scale.to(z.dtype)).square().sum(dim=1) + self.hparams["delta"] * self.tied(x).abs().sum(
            dim=1
        )
        return torch.where(semi_y < 0, self.weights[1]["of"][1] / (pulled + self.delta), pulled)

    def score(self, x: Tensor) -> Tensor:
        return (self.represent(x) - self.average).square().sum(dim=1)


class WeightNormed(DeepSADModule):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        nn.utils.parametrizations.weight_norm(self.encoder.layers[0])  # type: ignore[index, arg-type]


class Dropping(DeepSADModule):
    """Deep SAD with dropout before the distance."""

    def distance2(self, x: Tensor) -> Tensor:
        return (torch.dropout(self.encoder(x), 0.3, self.training) - self.center).square().sum(dim=1)


class Bounded(DeepSADModule):
    """A loss weighted by the number of distant samples in the batch, which padding must not change."""

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        distance2 = self.distance2(x)
        far = (distance2.detach() > 0.1).sum() + (semi_y < 0).sum()
        return distance2 * (1 + far)


class Annealed(DeepSADModule):
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y) * (1 + self.current_epoch)


def phases_of(
    make: Make, *, epochs: int, batch_size: int = 10**6, double: bool = True, each: Sequence[dict[str, Any]] = ({},) * 3
) -> tuple[Plan, list[Phase]]:
    """Three trainings of a method on toy data, the same at each call."""
    phases: list[Phase] = []
    for seed, (words, rate, own) in enumerate(zip(SCENARIOS, RATES, each, strict=True)):
        plan = plan_of("dataset=toy", "logger=none", "trainer.accelerator=cpu", "pretrain=none", *words)
        data = build(plan, load_data(plan)).phases[0].data
        data.batch_size = batch_size
        torch.manual_seed(seed)
        module = make(MLP, lr=rate, epochs=[epochs], weight_decay=1e-3, **own)
        if double:
            module.double()
            data.source = dataclasses.replace(data.source, x_train=data.source.x_train.astype(np.float64))
        data.sample(module.sampling)
        if module.partners:
            module.set_partners(*map(torch.from_numpy, data.partners(module.partners)))
        phases.append(Phase("fit", module, data, None))
    return plan, phases


class Sink(NoTracker):
    def __init__(self) -> None:
        self.values: list[float] = []

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        self.values += values


def alone(plan: Plan, phase: Phase, folder: Path, resumed: Path | None = None) -> Sink:
    sink = Sink()
    callbacks: list[Callback] = [LossRecorder("fit", sink), CollapseCheck("fit")]
    trainer = make_trainer(plan.trainer, folder, sum(phase.module.epochs), callbacks)
    trainer.fit(phase.module, datamodule=phase.data, ckpt_path=resumed, weights_only=True)
    return sink


def at_once(plan: Plan, phases: Sequence[Phase], folder: Path, resumed: bool = False) -> list[Sink]:
    paths = [folder / str(i) / "x.ckpt" for i in range(len(phases))]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    trainings = [
        Training(phase, path, Sink(), torch.load(path, weights_only=True) if resumed else None)
        for phase, path in zip(phases, paths, strict=True)
    ]
    settings = {**plan.trainer, "checkpoint_seconds": 0}
    for result in train_stack(trainings, settings, folder):
        if isinstance(result, Exception):
            raise result
    return [training.sink for training in trainings]  # type: ignore[misc]


def assert_same(
    make: Make, folder: Path, *, rtol: float = 1e-10, atol: float = 1e-12, **of: Any
) -> list[VectorizedObjective]:
    """Train replicas alone and stacked, and check that they agree; return the objectives of the stack."""
    used: list[VectorizedObjective] = []
    check = VectorizedObjective.check

    def spying(self: VectorizedObjective, *args: Any) -> None:
        used.append(self)
        check(self, *args)

    plan, singles = phases_of(make, **of)
    _, stacked = phases_of(make, **of)
    expected = [alone(plan, phase, folder) for phase in singles]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VectorizedObjective, "check", spying)
        found = at_once(plan, stacked, folder)
    for sinks, phases in zip(zip(found, expected, strict=True), zip(stacked, singles, strict=True), strict=True):
        np.testing.assert_allclose(sinks[0].values, sinks[1].values, rtol=max(rtol, 1e-6))  # recorded in float32
        state, reference = (phase.module.state_dict() for phase in phases)
        assert state.keys() == reference.keys()
        for key, tensor in state.items():
            torch.testing.assert_close(
                tensor, reference[key], rtol=rtol, atol=atol, msg=lambda of, key=key: f"{key}: {of}"
            )
    return used


def made(name: str, subclass: bool) -> Make:
    kind, arguments = METHODS[name]
    of = with_other_terms(kind) if subclass else kind
    return lambda network, **schedule: of(network, **arguments, **schedule)


@pytest.mark.parametrize("subclass", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_one_step_of_every_method_and_a_subclass_equals_that_alone(tmp_path: Path, name: str, subclass: bool) -> None:
    (used,) = [*assert_same(made(name, subclass), tmp_path, epochs=1), None][:1]
    assert (used is None) == (name in BY_HAND and not subclass)
    # Padding affects a quantile over the batch and its farthest samples, and batch norm does not know it in tuples.
    assert used is None or used._pads == (name not in ("soft_boundary_svdd", "loe", "prenet", "rosas"))


@pytest.mark.parametrize("make", [made("deep_sad", True), made("ss_dgm_m2", True), FromScratch])
def test_further_steps_in_single_precision_differ_by_rounding(tmp_path: Path, make: Make) -> None:
    assert_same(make, tmp_path, epochs=4, batch_size=150, double=False, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("averages", [True, False])
def test_a_method_from_scratch_takes_the_steps_it_takes_alone(tmp_path: Path, averages: bool) -> None:
    each = [{"averages": averages}] * 3
    assert_same(FromScratch, tmp_path, epochs=1, each=each)
    (used,) = assert_same(FromScratch, tmp_path, epochs=4, batch_size=150, rtol=1e-7, atol=1e-9, each=each)
    # Batch norm leaves padding out; an average over the batch would include it.
    assert used._pads is not averages


def test_parametrized_layers_are_stacked(tmp_path: Path) -> None:
    (used,) = assert_same(WeightNormed, tmp_path, epochs=1)
    assert used._pads


def test_floats_may_differ_within_a_stack(tmp_path: Path) -> None:
    each = [{"delta": delta} for delta in (0.1, 0.5, 3.0)]
    kinds = {kind_of(FromScratch(MLP, lr=[0.1], epochs=[1], weight_decay=0, **own)) for own in each}
    assert len(kinds) == 1
    (used,) = assert_same(FromScratch, tmp_path, epochs=1, each=each)
    # The attribute, its two places in containers, the hyper-parameter, and the plain tensor.
    assert len(used._numbers) == 5
    parameters = ("_hparams", "weights", "delta", "scale")
    assert {place[1] for place in used._numbers} == set(parameters)


def test_expected_shares_of_anomalies_may_not_differ_within_a_stack(tmp_path: Path) -> None:
    # How many samples are the farthest ones is a whole number, so these replicas are split into stacks of equal floats.
    each = [{"expected_share": share} for share in (0.1, 0.1, 0.3)]
    plan, phases = phases_of(LOEModule, epochs=1, each=each)
    with pytest.raises(NotVectorizedError):
        at_once(plan, phases, tmp_path)


def test_terms_that_use_the_whole_batch_are_not_padded(tmp_path: Path) -> None:
    (used,) = assert_same(Bounded, tmp_path, epochs=2, batch_size=150, rtol=1e-7, atol=1e-9)
    assert not used._pads


def test_a_loss_may_depend_on_the_epoch(tmp_path: Path) -> None:
    assert_same(Annealed, tmp_path, epochs=3, rtol=1e-7, atol=1e-9)


def test_stacked_training_resumes_alone_and_vice_versa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {"epochs": 4, "batch_size": 150}
    plan, whole = phases_of(FromScratch, **many)
    for phase in whole:
        alone(plan, phase, tmp_path)

    class KilledError(Exception):
        pass

    save = ReplicaCheckpoints.on_train_epoch_end

    def save_and_die(self: Any, trainer: Any, pl_module: Any) -> None:
        save(self, trainer, pl_module)
        if trainer.current_epoch == 1:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(ReplicaCheckpoints, "on_train_epoch_end", save_and_die)
        with pytest.raises(KilledError):
            at_once(plan, phases_of(FromScratch, **many)[1], tmp_path)
    first = phases_of(FromScratch, **many)[1][0]
    alone(plan, first, tmp_path, tmp_path / "0" / "x.ckpt")
    rest = phases_of(FromScratch, **many)[1]
    at_once(plan, rest, tmp_path, resumed=True)
    for phase, reference in [(first, whole[0]), *zip(rest, whole, strict=True)]:
        for key, tensor in phase.module.state_dict().items():
            torch.testing.assert_close(tensor, reference.module.state_dict()[key], rtol=1e-7, atol=1e-9)


class OwnStep(DeepSADModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * 2


class OwnPart(DeepSADModule):
    def training_part(self, batch: Any) -> tuple[Tensor, Tensor]:
        x, semi_y = super().training_part(batch)
        return 2 * x, semi_y


class Opaque(DeepSADModule):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.criterion = object()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (OwnStep, "OwnStep has a training_step of its own"),
        (OwnPart, "OwnPart has a training_part of its own"),
        (Opaque, "Opaque.criterion is a object, which cannot be compared between experiments"),
    ],
)
def test_methods_not_trained_by_terms_alone_have_no_kind(kind: type[TrainedMethod], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kind_of(kind(MLP))


class Counting(DeepSADModule):
    steps = 0

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        self.steps += 1
        return super().terms(x, semi_y) / self.steps


class Accumulating(DeepSADModule):
    """Changes a tensor in place that is not a buffer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__dict__["seen"] = torch.zeros(())

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        self.seen.add_(1.0)
        return super().terms(x, semi_y) / self.seen.clone()


class SharedNoise(DeepSADModule):
    """Draws noise in the right place, but from torch's global generator."""

    def draw(self, size: int) -> tuple[Tensor, ...]:
        return (torch.rand(size),)

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        (noise,) = self.draw(len(x))
        return super().terms(x, semi_y) * (1 + noise)


class WarmingUp(DeepSADModule):
    """Does not depend on the number of epochs at first."""

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y) * (1 + self.current_epoch / sum(self.epochs))


class ByRate(DeepSADModule):
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y) * self.hparams["lr"][0]


class Branching(DeepSADModule):
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y) if self.eta > 1 else self.distance2(x)


class Asking(DeepSADModule):
    """Gives wrong results in a stack, where the number is a tensor, without an error."""

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y) * (2 if isinstance(self.eta, float) else 1)


class Logging(DeepSADModule):
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        terms = super().terms(x, semi_y)
        self.log("far", terms.max())
        return terms


class Unused(DeepSADModule):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle = nn.Linear(2, 2)


class TwiceNoisy(VAEModule):
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y) + self.noise(len(x))


class Nothing(DeepSADModule):
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y).mean()


class FromNumpy(DeepSADModule):
    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y) * np.random.rand()  # noqa: NPY002


RANDOM = "called random operation while in randomness error mode"
ELSE = "they give different results for several replicas than for one"


@pytest.mark.parametrize(
    ("kind", "why", "own"),
    [
        (Dropping, RANDOM, {}),
        (TwiceNoisy, "they read seed, in which replicas may differ", SIZES),
        (Counting, "they change attributes of the module", {}),
        (Accumulating, "they change attributes of the module", {}),
        (SharedNoise, "they draw from a random generator that all replicas share", {}),
        (WarmingUp, "they read epochs, in which replicas may differ", {}),
        (ByRate, "lr", {}),
        (Branching, "data-dependent control flow", {}),
        (Asking, ELSE, {}),
        (FromNumpy, ELSE, {}),
        (Logging, "they ask the Trainer for ", {}),
        (Unused, "they give idle.weight no gradient", {}),
        (Nothing, r"they have shape \(\) for \d+ samples", {}),
    ],
)
def test_what_cannot_be_vectorized_is_refused_before_the_first_step(
    tmp_path: Path, kind: type[TrainedMethod], why: str, own: dict[str, Any]
) -> None:
    each = [own if kind is TwiceNoisy else {"eta": eta} for eta in (0.5, 1.0, 2.0)]
    plan, phases = phases_of(kind, epochs=1, each=each)
    before = [copy.deepcopy(phase.module.state_dict()) for phase in phases]
    random = torch.get_rng_state()
    with pytest.raises(NotVectorizedError, match=why):
        at_once(plan, phases, tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    for phase, state in zip(phases, before, strict=True):
        for name, tensor in phase.module.state_dict().items():
            assert torch.equal(tensor, state[name]) or name.startswith("center")
