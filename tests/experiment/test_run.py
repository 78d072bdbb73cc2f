"""One experiment in this process: the files in its run folder, and whether they are correct."""

import csv
import json
import logging
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from planned import plan_of, settings_of
from sklearn.metrics import average_precision_score, roc_auc_score

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Range
from deepsad_pl.experiment import build
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.deep_sad import DeepSADModule

Experiment = Callable[..., Outcome]
ONE_EPOCH = "trainer.max_epochs=1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """A finished run of two epochs, which tests only read."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    output_dir = tmp_path_factory.mktemp("finished")
    settings = settings_of(f"output_dir={output_dir}", "logger=none", "trainer.max_epochs=2", "scenario.gamma_p=0.1")
    yield run_experiment(
        make_plan(settings), config=settings, config_yaml=OmegaConf.to_yaml(settings), command="how to repeat it"
    )
    root.setLevel(level)


def scores_of(outcome: Outcome) -> dict[str, np.ndarray]:
    with (outcome.run_dir / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in ("index", "y", "score")}


def score_bytes(outcome: Outcome) -> bytes:
    return (outcome.run_dir / "scores.csv").read_bytes()


def test_a_run_folder_holds_exactly_the_documented_files(finished: Outcome) -> None:
    files = {str(path.relative_to(finished.run_dir)) for path in finished.run_dir.rglob("*") if path.is_file()}
    promised = {"config.yaml", "train.log", "checkpoints/last.ckpt", "scores.csv", "metrics.json"}
    promised |= {"detector/detector.json", "detector/module.ckpt", "detector/references.npz"}
    assert files - {".lock"} == promised | {"checkpoints/pretrain.ckpt"}


def test_the_config_is_saved_with_every_value_resolved(finished: Outcome) -> None:
    text = (finished.run_dir / "config.yaml").read_text()
    config = OmegaConf.create(text)
    assert "${" not in text
    assert config.method.lr == config.dataset.lr
    assert (config.seed, config.scenario.gamma_p, config.trainer.max_epochs) == (0, 0.1, 2)


def test_the_log_has_the_counts(finished: Outcome) -> None:
    counts = finished.record["counts"]
    text = (finished.run_dir / "train.log").read_text()
    for key in ("unlabeled", "pollution", "labeled_anomalies"):
        assert str(counts[key]) in text


def test_scores_cover_the_test_set_once(finished: Outcome) -> None:
    header = score_bytes(finished).decode().splitlines()[0]
    scores, counts = scores_of(finished), finished.record["counts"]
    assert header == "index,y,score,class"
    assert scores["index"].tolist() == list(range(719))
    assert (counts["test"], counts["test_normal"], counts["test_anomalous"]) == (719, 71, 648)
    assert scores["y"].sum() == 648
    assert np.isfinite(scores["score"]).all()


def test_metrics_agree_with_scikit_learn(finished: Outcome) -> None:
    scores = scores_of(finished)
    expected = roc_auc_score(scores["y"], scores["score"]), average_precision_score(scores["y"], scores["score"])
    assert (finished.record["auroc"], finished.record["average_precision"]) == pytest.approx(expected, abs=1e-6)
    assert 0 < finished.record["auroc"] < 1
    assert 0 < finished.record["average_precision"] < 1


def test_the_returned_record_equals_the_file(finished: Outcome) -> None:
    written = json.loads((finished.run_dir / "metrics.json").read_text())
    assert written.pop("sha256") and written == finished.record


def test_the_record_has_the_counts(finished: Outcome) -> None:
    # There are 107 normals, and a tenth of the unlabeled rows is pollution: T (.95 - .1 x .95) = 107, so T = 125.1.
    expected = {"train": 124, "unlabeled": 118, "unlabeled_normals": 107, "pollution": 11}
    expected |= {"labeled_anomalies": 6, "labeled_normals": 0}
    assert expected.items() <= finished.record["counts"].items()


def test_the_record_says_what_was_done(finished: Outcome) -> None:
    record = finished.record
    assert (record["dataset"], record["method"], record["seed"]) == ("digits", "deep_sad", 0)
    resolved = {"normal_class": ["0"], "anomaly_class": ["1"], "gamma_l": 0.05, "gamma_p": 0.1, "gamma_n": 0.0}
    assert record["scenario"] == {**resolved, "k_l": 1}
    assert record["hash"] == finished.run_dir.name[-8:]
    assert record["command"] == "how to repeat it"
    assert record["trainer"]["device"]
    assert record["trainer"]["threads"] == torch.get_num_threads()


def test_the_record_has_the_seconds_of_each_part(finished: Outcome) -> None:
    assert set(finished.record["seconds"]) == {"pretrain", "fit", "score"}
    assert all(seconds > 0 for seconds in finished.record["seconds"].values())


def test_the_record_has_the_versions(finished: Outcome) -> None:
    assert {"python", "torch", "pytorch-lightning", "hydra-core", "deepsad_pl"} <= set(finished.record["versions"])
    assert finished.record["versions"]["torch"] == torch.__version__.split("+")[0]


def test_a_checkpoint_loads_without_pickled_code(finished: Outcome) -> None:
    checkpoint = torch.load(finished.run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] + 1 == 2
    assert checkpoint["hyper_parameters"]["eta"] == 1.0


def test_a_checkpoint_gives_the_same_scores_again(finished: Outcome) -> None:
    path = finished.run_dir / "checkpoints" / "last.ckpt"
    module = DeepSADModule.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    source = build.load_data(plan_of())
    with torch.no_grad():
        again = module(torch.from_numpy(source.x_test).float() / 16)
    written = scores_of(finished)["score"].astype(np.float32)
    assert np.array_equal(again.numpy(), written)


def test_the_encoder_was_pretrained_before_it_was_fitted(finished: Outcome) -> None:
    spread = finished.record["spread"]
    assert spread["pretrain"]["final"] != spread["pretrain"]["initial"]
    assert spread["fit"]["initial"] == pytest.approx(spread["pretrain"]["final"], rel=1e-9)


def test_a_finished_run_is_not_trained_again(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    first = experiment(ONE_EPOCH)
    before = {path: path.stat().st_mtime_ns for path in first.run_dir.rglob("*")}
    monkeypatch.setattr("deepsad_pl.experiment.run.load_data", None)
    second = experiment(ONE_EPOCH)
    assert (first.was_finished, second.was_finished) == (False, True)
    assert second.record == first.record
    assert {path: path.stat().st_mtime_ns for path in first.run_dir.rglob("*")} == before


def test_force_trains_a_finished_run_again_to_the_same_bits(experiment: Experiment) -> None:
    first = experiment(ONE_EPOCH)
    bits, mtime = score_bytes(first), (first.run_dir / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    forced = experiment(ONE_EPOCH, "force=true")
    assert not forced.was_finished
    assert forced.run_dir == first.run_dir
    assert (first.run_dir / "checkpoints" / "last.ckpt").stat().st_mtime_ns > mtime
    assert score_bytes(forced) == bits


def test_force_starts_from_scratch(experiment: Experiment, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outcome = experiment(ONE_EPOCH)
    experiment(ONE_EPOCH, "force=true")
    assert "resumes from" not in (outcome.run_dir / "train.log").read_text()


@pytest.mark.parametrize("words", [(), ("force=true",)])
def test_the_log_of_a_rank_that_failed_is_gone_once_the_run_is_finished(
    experiment: Experiment, words: tuple[str, ...]
) -> None:
    run_dir = experiment(ONE_EPOCH).run_dir
    (run_dir / "train.rank1.log").touch()
    if not words:
        (run_dir / "metrics.json").unlink()
    assert not experiment(ONE_EPOCH, *words).was_finished
    assert not (run_dir / "train.rank1.log").exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_gives_the_same_bits_whatever_ran_before(experiment: Experiment, tmp_path: Path, seed: int) -> None:
    first = experiment(ONE_EPOCH, f"seed={seed}", f"output_dir={tmp_path / 'one'}")
    torch.manual_seed(12345)
    np.random.seed(12345)  # noqa: NPY002
    second = experiment(ONE_EPOCH, f"seed={seed}", f"output_dir={tmp_path / 'two'}")
    assert first.run_dir != second.run_dir
    assert score_bytes(first) == score_bytes(second)


def test_seeds_differ(experiment: Experiment) -> None:
    outcomes = [experiment(ONE_EPOCH, f"seed={seed}") for seed in (0, 1, 2)]
    assert len({outcome.run_dir for outcome in outcomes}) == 3
    assert len({score_bytes(outcome) for outcome in outcomes}) == 3


def test_an_experiment_leaves_the_global_random_state_alone(experiment: Experiment) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    experiment(ONE_EPOCH)
    assert torch.equal(torch.rand(3), expected)


def test_the_number_of_threads_is_set(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    experiment(ONE_EPOCH, "pretrain=none")
    experiment(ONE_EPOCH, "pretrain=none", "trainer.threads=3", "force=true")
    experiment(ONE_EPOCH, "pretrain=none", "force=true")
    assert asked == [torch.get_num_threads(), 3, torch.get_num_threads()]


def test_transfer_copies_every_tensor_of_the_encoder() -> None:
    pretrain, fit = build.build(plan_of(), build.load_data(plan_of())).phases
    with torch.no_grad():
        for parameter in pretrain.module.encoder.parameters():
            parameter.add_(1.0)
        for name, buffer in pretrain.module.encoder.named_buffers():
            buffer.fill_(3) if "num_batches" in name else buffer.uniform_(1, 2)
    source = pretrain.module.encoder.state_dict()
    assert not any(torch.equal(source[key], tensor) for key, tensor in fit.module.encoder.state_dict().items())

    fit.module.start_from(pretrain.module)
    target = fit.module.encoder.state_dict()
    assert list(target) == list(source)
    assert len(source) > 3
    assert all(torch.equal(target[key], source[key]) for key in source)


def test_transferred_weights_are_not_shared() -> None:
    pretrain, fit = build.build(plan_of(), build.load_data(plan_of())).phases
    fit.module.start_from(pretrain.module)
    pointers = {tensor.data_ptr() for tensor in pretrain.module.encoder.state_dict().values()}
    assert pointers.isdisjoint(tensor.data_ptr() for tensor in fit.module.encoder.state_dict().values())


@pytest.mark.parametrize("difference", [{"dense": [16]}, {"filters": [16]}, {"kernel_size": 5}])
def test_transfer_to_another_network_fails(difference: dict[str, Any]) -> None:
    network = {"name": "lenet", "in_shape": [1, 8, 8], "filters": [4, 8], "dense": [32], "kernel_size": 3}
    with pytest.raises(RuntimeError, match="state_dict"):
        DeepSADModule({**network, **difference}).start_from(AutoencoderModule(network, sigmoid=True))


def test_without_pretraining_there_is_no_such_phase(experiment: Experiment) -> None:
    outcome = experiment(ONE_EPOCH, "pretrain=none")
    assert outcome.record["seconds"]["pretrain"] == 0
    assert [path.name for path in (outcome.run_dir / "checkpoints").iterdir()] == ["last.ckpt"]


def test_pretraining_changes_the_scores(experiment: Experiment) -> None:
    assert score_bytes(experiment(ONE_EPOCH, "pretrain=none")) != score_bytes(experiment(ONE_EPOCH))


def test_pretraining_on_unlabeled_data_leaves_out_labeled_anomalies_only_there(experiment: Experiment) -> None:
    plan = plan_of("pretrain.data=unlabeled", "scenario.gamma_n=0.1")
    phases = build.build(plan, build.load_data(plan)).phases
    seen = [torch.cat([semi_y for _, semi_y, _, _ in phase.data.train_dataloader()]) for phase in phases]
    assert [sorted(set(semi_y.tolist())) for semi_y in seen] == [[0, 1], [-1, 0, 1]]
    assert experiment(ONE_EPOCH, "pretrain.data=unlabeled").record["counts"]["labeled_anomalies"] == 5


@pytest.mark.parametrize("overrides", [("pretrain.loss=cross_entropy",), ("method.center_from=all",)])
def test_each_switch_changes_the_scores(experiment: Experiment, overrides: tuple[str, ...]) -> None:
    assert score_bytes(experiment(ONE_EPOCH, *overrides)) != score_bytes(experiment(ONE_EPOCH))


def test_the_center_can_come_from_labeled_normals(experiment: Experiment) -> None:
    outcome = experiment(ONE_EPOCH, "scenario.gamma_n=0.2", "method.center_from=labeled_normal")
    counts = outcome.record["counts"]
    assert (counts["labeled_normals"], counts["unlabeled_normals"]) == (22, 85)
    assert outcome.record["scenario"]["gamma_n"] == 0.2


def test_several_classes_can_be_normal(experiment: Experiment) -> None:
    outcome = experiment(ONE_EPOCH, "scenario.normal_class=[8,0,'3']", "scenario.anomaly_class=null", "scenario.k_l=2")
    scenario, counts = outcome.record["scenario"], outcome.record["counts"]
    assert scenario["normal_class"] == ["0", "3", "8"]
    assert scenario["k_l"] == len(scenario["anomaly_class"]) == 2
    assert counts["test_normal"] > 2 * 69
    assert scores_of(outcome)["y"].sum() == counts["test_anomalous"]


def test_without_labels_nothing_is_labeled(experiment: Experiment) -> None:
    outcome = experiment(ONE_EPOCH, "scenario.gamma_l=0")
    assert (outcome.record["scenario"]["anomaly_class"], outcome.record["scenario"]["k_l"]) == ([], 0)
    assert (outcome.record["counts"]["train"], outcome.record["counts"]["unlabeled"]) == (107, 107)


def test_the_autoencoder_can_be_the_method(experiment: Experiment) -> None:
    outcome = experiment(ONE_EPOCH, "method=autoencoder")
    assert outcome.run_dir.parent.name == outcome.record["method"] == "autoencoder"
    assert outcome.record["counts"]["labeled_anomalies"] == 0
    assert outcome.record["seconds"]["pretrain"] == 0
    scores = scores_of(outcome)
    assert outcome.record["auroc"] == pytest.approx(roc_auc_score(scores["y"], scores["score"]), abs=1e-6)


@pytest.mark.parametrize(("capability", "is_slow"), [("AVX2", True), ("AVX512", False)])
def test_a_run_in_half_precision_works_and_tells_where_it_is_slow(
    experiment: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capability: str,
    is_slow: bool,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    outcome = experiment(ONE_EPOCH, "trainer.precision=bf16-mixed", "pretrain=none", "trainer=cpu")
    assert np.isfinite(scores_of(outcome)["score"]).all()
    assert [record.levelname for record in caplog.records if "emulates bf16" in record.message] == ["WARNING"] * is_slow
    caplog.clear()
    experiment(ONE_EPOCH, "pretrain=none", "trainer=cpu")
    assert "emulates bf16" not in caplog.text


def test_a_wrong_value_leaves_no_run_folder(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(DeepSADError):
        experiment("method.eta=0")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "key"), [("scenario.gamma_l=0.9", "scenario.gamma_l"), ("scenario.gamma_p=0.95", "scenario.gamma_p")]
)
def test_a_scenario_that_the_data_do_not_allow_leaves_no_run_folder(
    experiment: Experiment, tmp_path: Path, override: str, key: str
) -> None:
    with pytest.raises(DeepSADError, match=key):
        experiment(override)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("group", ["pretrain", "method"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_key(
    experiment: Experiment, tmp_path: Path, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rates that overflow at once are refused otherwise.
    monkeypatch.setattr(Range, "__contains__", lambda *_: True)
    with pytest.raises(DeepSADError, match=rf"loss is (nan|inf).*\b{group}\.lr\b"):
        experiment("trainer.max_epochs=3", f"{group}.lr=[1e38,1e38]")
    assert not list(tmp_path.rglob("metrics.json"))


def test_a_collapse_is_reported_in_plain_words(
    experiment: Experiment, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment(ONE_EPOCH)
    assert "collapsed" not in caplog.text
    monkeypatch.setattr("deepsad_pl.training.trainer.COLLAPSE_RATIO", 1e9)
    experiment(ONE_EPOCH, "pretrain=none")
    (message,) = [record.getMessage() for record in caplog.records if "collapsed" in record.getMessage()]
    assert "method.lr" in message


def test_an_unreadable_record_is_reported_and_force_replaces_it(
    experiment: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    path = experiment(ONE_EPOCH, "pretrain=none").run_dir / "metrics.json"
    path.write_text("{")
    assert not experiment(ONE_EPOCH, "pretrain=none").was_finished
    (told,) = [record.getMessage() for record in caplog.records if "metrics.json" in record.getMessage()]
    assert told.startswith(f"{path} is not a valid record (")
    path.write_text("{")
    assert not experiment(ONE_EPOCH, "pretrain=none", "force=true").was_finished


def test_an_output_dir_that_cannot_be_created_is_reported(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeepSADError, match="choose another output_dir"):
        experiment(ONE_EPOCH, f"output_dir={tmp_path / 'file' / 'runs'}")


def test_a_center_without_samples_is_reported_before_any_work(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match="labels none of 112 training rows"):
        experiment("method.center_from=labeled_normal", "scenario.gamma_n=0.001")
    assert not (tmp_path / "runs").exists()


def test_a_network_that_does_not_fit_is_reported_before_any_work(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match="too small for 4 poolings"):
        experiment("dataset.network.filters=[4,4,4,4]")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_a_task_of_a_job_farm_writes_a_complete_run(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "3")
    run_dir = experiment(ONE_EPOCH, "pretrain=none", "logger=csv").run_dir
    assert {"config.yaml", "train.log", "losses.csv", "metrics.json"} <= {path.name for path in run_dir.iterdir()}
