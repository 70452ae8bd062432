import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from anatomy import blob_case, tiny_plan
from test_model import tiny_model
from torch import Tensor, nn

from delineate.engines import ENGINES, EngineChoice, open_runner
from delineate.engines.candidates import PRECISIONS
from delineate.engines.torch_engine import open_torch
from delineate.errors import ModelError, ResourceError
from delineate.model import Model, save_model
from delineate.planning import Plan, Region
from delineate.settings import Settings
from delineate.volume import Segmentation
from delineate.workflow import engine_trials, engines
from delineate.workflow.engine_records import AGREEMENT_FILE, read_agreements, read_engine_record
from delineate.workflow.engine_survey import agreement_of, known_engines, survey_engines
from delineate.workflow.engines import EngineWish, choose_engine, open_runners

VOLUME, REFERENCE = blob_case(0)
MANY = EngineWish(scans=1000)


@dataclass(frozen=True)
class Fake:
    """An engine that adds to the logits what its precision is told to."""

    choice: EngineChoice
    inner: Callable[[Tensor], Tensor]
    added: float
    seconds: float

    def __call__(self, windows: Tensor) -> Tensor:
        time.sleep(self.seconds)
        logits = self.inner(windows).clone()
        logits[:, 1] += self.added
        return logits


@pytest.fixture
def model() -> Model:
    """A network that finds something, whatever is drawn."""
    made = tiny_model()
    random = torch.Generator().manual_seed(0)
    weights = {name: torch.rand(tensor.shape, generator=random) - 0.4 for name, tensor in made.weights.items()}
    return Model(weights, made.plan, made.labels, made.provenance)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """PyTorch made slow, a faster "openvino" that loses masks in int8, and an "onnxruntime" that takes no network.

    Gives the engines that are opened, in order.
    """
    names: list[str] = []

    def fake(added: dict[str, float], seconds: float) -> Callable[..., Fake]:
        def opener(network: nn.Module, plan: Plan, choice: EngineChoice, calibration: Sequence[Tensor]) -> Fake:
            names.append(str(choice))
            assert choice.precision != "int8" or len(calibration) > 0
            inner = open_torch(network, plan, EngineChoice())
            return Fake(choice, inner, added[choice.precision], seconds)

        return opener

    def broken(*_: object) -> Fake:
        raise ModelError("an operation is not known")

    monkeypatch.setitem(ENGINES, "torch", fake({"float32": 0.0}, 0.05))
    monkeypatch.setitem(ENGINES, "openvino", fake({"float32": 1e-7, "bfloat16": 0.0, "int8": 4.0}, 0.0))
    monkeypatch.setitem(ENGINES, "onnxruntime", broken)
    monkeypatch.setitem(PRECISIONS, "torch", lambda _: ("float32",))
    monkeypatch.setitem(PRECISIONS, "openvino", lambda _: ("float32", "bfloat16", "int8"))
    monkeypatch.setitem(PRECISIONS, "onnxruntime", lambda _: ("float32",))
    monkeypatch.setattr(engines, "WORTH_SECONDS", 1e-9)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield names
    torch.set_num_threads(threads)


def settings_in(folder: Path, threads: int = 1) -> Settings:
    return Settings("cpu", threads, 10**9, folder)


def test_the_fastest_that_keeps_the_masks_is_chosen(opened: list[str], model: Model, tmp_path: Path) -> None:
    choice, report = choose_engine(model, VOLUME, settings_in(tmp_path), wish=MANY)
    assert choice.engine == "openvino"
    assert choice.precision in ("float32", "bfloat16")
    assert report.measured
    assert opened[0] == "torch float32"


def test_engines_that_take_no_network_are_passed_over_with_a_reason(
    opened: list[str], model: Model, tmp_path: Path
) -> None:
    _, report = choose_engine(model, VOLUME, settings_in(tmp_path), wish=MANY)
    assert {trial.engine: trial.problem for trial in report.trials}["onnxruntime"] == "an operation is not known"


def test_what_was_measured_is_remembered(opened: list[str], model: Model, tmp_path: Path) -> None:
    first, _ = choose_engine(model, VOLUME, settings_in(tmp_path), wish=MANY)
    opened.clear()
    again, report = choose_engine(model, VOLUME, settings_in(tmp_path), wish=MANY)
    assert (again, report.measured, opened) == (first, False, [])


def test_other_machines_and_models_are_measured_anew(opened: list[str], model: Model, tmp_path: Path) -> None:
    choose_engine(model, VOLUME, settings_in(tmp_path), wish=MANY)
    other = Model({n: t + 0.01 for n, t in model.weights.items()}, model.plan, model.labels, model.provenance)
    assert choose_engine(model, VOLUME, settings_in(tmp_path, threads=2), wish=MANY)[1].measured
    assert choose_engine(other, VOLUME, settings_in(tmp_path), wish=MANY)[1].measured


def test_damaged_records_are_measured_anew(opened: list[str], model: Model, tmp_path: Path) -> None:
    choose_engine(model, VOLUME, settings_in(tmp_path), wish=MANY)
    for path in (tmp_path / "engines").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    assert choose_engine(model, VOLUME, settings_in(tmp_path), wish=MANY)[1].measured


def test_where_little_is_to_do_nothing_is_tried(
    opened: list[str], model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "WORTH_SECONDS", 15.0)
    choice, report = choose_engine(model, VOLUME, settings_in(tmp_path))
    assert (str(choice), report.measured, opened) == ("torch float32", False, [])


def test_what_is_asked_for_is_not_measured(opened: list[str], model: Model, tmp_path: Path) -> None:
    wish = EngineWish("openvino", "int8", scans=1000)
    choice, _ = choose_engine(model, VOLUME, settings_in(tmp_path), wish=wish)
    assert (choice.engine, choice.precision, opened) == ("openvino", "int8", [])


def test_a_wish_for_an_engine_leaves_the_precision_to_be_chosen(
    opened: list[str], model: Model, tmp_path: Path
) -> None:
    choice, _ = choose_engine(model, VOLUME, settings_in(tmp_path), wish=EngineWish("openvino", scans=1000))
    assert choice.engine == "openvino"
    assert choice.precision != "int8"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (EngineWish("tpu"), "no such engine"),
        (EngineWish("torch", "int8"), "does not compute in this precision"),
        (EngineWish(precision="float8"), "no engine here computes in this precision"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(
    opened: list[str], model: Model, tmp_path: Path, wish: EngineWish, message: str
) -> None:
    with pytest.raises(ResourceError, match=message):
        choose_engine(model, VOLUME, settings_in(tmp_path), wish=wish)


def test_agreement_is_noted_in_the_models_folder(opened: list[str], model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "model", model)
    choose_engine(model, VOLUME, settings_in(tmp_path), wish=EngineWish(scans=1000, folder=tmp_path / "model"))
    noted = read_agreements(tmp_path / "model", model)
    assert noted["openvino float32"].equal > 0.999
    assert not noted["openvino float32"].whole


def test_folders_that_cannot_be_written_to_do_no_harm(opened: list[str], model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wish = EngineWish(scans=1000, folder=tmp_path / "file")
    assert choose_engine(model, VOLUME, settings_in(tmp_path / "file" / "cache"), wish=wish)[1].measured


def test_a_survey_compares_masks_of_the_whole_scan(opened: list[str], model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "model", model)
    survey = survey_engines(model, VOLUME, settings_in(tmp_path), folder=tmp_path / "model")
    by_name = {" ".join(trial.key): trial for trial in survey.trials}
    assert all(trial.agreement.whole for trial in survey.trials if trial.agreement)
    assert not by_name["openvino int8"].is_faithful
    assert by_name["openvino bfloat16"].is_faithful
    assert survey.chosen is not None
    assert survey.chosen.engine == "openvino"
    assert (tmp_path / "model" / AGREEMENT_FILE).exists()


def test_masks_of_whole_scans_outweigh_windows(opened: list[str], model: Model, tmp_path: Path) -> None:
    survey_engines(model, VOLUME, settings_in(tmp_path), folder=None)
    survey_engines(model, VOLUME, settings_in(tmp_path), folder=None, masks=False)
    trials = read_engine_record(model, settings_in(tmp_path)).trials
    assert all(trial.agreement.whole for trial in trials if trial.agreement)


def test_without_a_scan_what_was_not_tried_is_listed(opened: list[str], model: Model, tmp_path: Path) -> None:
    survey = known_engines(model, settings_in(tmp_path))
    assert len(survey.trials) == 5
    assert {trial.window_seconds for trial in survey.trials} == {0.0}


def test_agreement_goes_by_structures_not_by_values() -> None:
    found = np.array(REFERENCE.array)
    found[found == 2] = np.where(np.arange((found == 2).sum()) % 2, 2, 0)
    agreement = agreement_of(REFERENCE, Segmentation(found, REFERENCE.grid, REFERENCE.labels))
    assert agreement.dice["core"] == 1
    assert agreement.dice["rim"] == pytest.approx(2 / 3, abs=0.01)


def test_int8_is_calibrated_with_windows_of_the_scan(opened: list[str], model: Model) -> None:
    runners = open_runners(model, EngineChoice("openvino", "int8"), VOLUME)
    assert runners.folds[0].choice.precision == "int8"


def test_windows_are_spread_that_in_the_middle_first() -> None:
    image = np.zeros((1, 48, 40, 24), np.float32)
    image[0, 16:32, 12:28, 8:16] = 1
    windows = engine_trials.spread_windows(image, tiny_plan(), 5)
    assert [tuple(window.shape) for window in windows] == [(1, 1, 16, 16, 8)] * 5
    assert windows[0].mean() == max(window.mean() for window in windows)
    assert len({float(window.mean()) for window in windows}) > 1


def test_regions_are_what_is_above_zero() -> None:
    plan = tiny_plan(regions=(Region(name="core", values=(1, 2), paints=1),) * 2)
    runner = Fake(EngineChoice(), lambda windows: torch.cat([windows, -windows], 1), 0.0, 0.0)
    masks = engine_trials.run_window(runner, torch.linspace(-1, 1, 2048).reshape(1, 1, 16, 16, 8), plan)
    np.testing.assert_array_equal(masks[0], ~masks[1])


def test_mirrored_windows_are_mirrored_back(model: Model) -> None:
    runner = open_runner(model.network(), model.plan, EngineChoice())
    window = torch.randn(1, 1, 16, 16, 8)
    plain = engine_trials.run_window(lambda_runner(runner.choice), window, model.plan)
    mirrored = engine_trials.run_window(lambda_runner(runner.choice), window, model.plan, ((), (2,), (3, 4)))
    np.testing.assert_array_equal(plain, mirrored)


def lambda_runner(choice: EngineChoice) -> Fake:
    """Voxel by voxel, so that it does not matter how a window is turned."""
    return Fake(choice, lambda windows: torch.cat([-windows, windows, windows * 0 + 0.3], 1), 0.0, 0.0)


def test_without_masks_of_the_stage_before_only_float32_is_trusted(
    opened: list[str], model: Model, tmp_path: Path
) -> None:
    plan = tiny_plan(previous=("core",))
    weights = dict(model.weights)
    weights["encoder.levels.0.0.conv.weight"] = weights["encoder.levels.0.0.conv.weight"].repeat(1, 2, 1, 1, 1)
    cascade = Model(weights, plan, model.labels, model.provenance)
    choice, report = choose_engine(cascade, VOLUME, settings_in(tmp_path), wish=MANY)
    assert (choice.engine, choice.precision) == ("openvino", "float32")
    assert {trial.agreement.loss for trial in report.trials if trial.agreement} == {None}
