"""Weights carried from one network to another of other structures and channels."""

from itertools import islice
from pathlib import Path

import msgspec
import pytest
import torch
from anatomy import blob_case, tiny_plan, write_blobs
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate import training
from delineate.cli import main
from delineate.dataset import open_dataset
from delineate.errors import DelineateError, LabelError, ModelError, PlanError, TrainingError
from delineate.model import load_model
from delineate.networks import ARCHITECTURES, build_network
from delineate.planning import NetworkPlan, Plan, TransferPlan, ZScore, plan_from_json, plan_to_json
from delineate.planning.adopting import Matching, adopt, match_plans
from delineate.planning.options import PlanOptions
from delineate.preprocessing import prepare
from delineate.sampling import TrainingCase, index_case
from delineate.settings import detect
from delineate.training import TrainingState
from delineate.training.freezing import resting_names
from delineate.training.transfer import axes_of, carry_over, describe_transfer, fresh_names
from delineate.volume import Kind
from delineate.workflow.training import Division
from delineate.workflow.transferring import Beginning, begin_from

SHAPE = (8, 12, 16)


def plan_of(architecture: str = "nnunet", labels: tuple[str, ...] = ("core", "rim"), channels: int = 1) -> Plan:
    network = NetworkPlan(
        architecture=architecture,
        features=(8, 12),
        strides=((1, 1, 1), (2, 2, 2)),
        kernels=((3, 3, 3), (3, 3, 3)),
        norm="batch" if architecture in ("residual_unet", "vnet") else "instance",
        deep_supervision=False,
    )
    names = tuple(f"T{n}" for n in range(1, channels + 1))
    return tiny_plan(
        labels=labels,
        network=network,
        channels=names,
        kinds=(Kind.MR,) * channels,
        normalisation=(ZScore(),) * channels,
    )


def network_of(plan: Plan, seed: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes).eval()


def carried(source: Plan, target: Plan, matching: Matching) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A network of `source`, and one of `target` that began with its weights."""
    first, second = network_of(source, 1), network_of(target, 2)
    second.load_state_dict(carry_over(first.state_dict(), second.state_dict(), matching, axes_of(target)))
    return first, second


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@settings(max_examples=3, deadline=None)
@given(order=st.permutations(range(4)), inputs=st.permutations(range(2)))
def test_a_reordered_network_says_the_same_in_another_order(
    architecture: str, order: list[int], inputs: list[int]
) -> None:
    plan = plan_of(architecture, ("a", "b", "c"), channels=2)
    if architecture == "vnet":  # adds its input to features by number
        inputs = sorted(inputs)
    first, second = carried(plan, plan, Matching(tuple(order), tuple((n,) for n in inputs)))
    image = torch.randn((1, 2, *SHAPE), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = first(image)[:, order], second(image[:, inputs])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_new_structure_starts_anew_beside_those_that_are_kept() -> None:
    source, target = plan_of(labels=("core", "rim")), plan_of(labels=("rim", "vessel"))
    matching = match_plans(source, target)
    first, fresh = network_of(source, 1).state_dict(), network_of(target, 2).state_dict()
    state = carry_over(first, fresh, matching, axes_of(target))
    head = "decoder.heads.0.weight"
    assert matching.outputs == (0, 2, None)
    assert torch.equal(state[head], torch.stack((first[head][0], first[head][2], fresh[head][2])))
    assert torch.equal(state["encoder.levels.1.0.conv.weight"], first["encoder.levels.1.0.conv.weight"])


def test_channels_are_matched_by_name_then_averaged() -> None:
    source, target = plan_of(channels=2), plan_of(channels=3)
    matching = match_plans(source, target)
    assert matching.inputs == ((0,), (1,), (0, 1))
    first = network_of(source, 1).state_dict()["encoder.levels.0.0.conv.weight"]
    _, second = carried(source, target, matching)
    kernel = second.state_dict()["encoder.levels.0.0.conv.weight"]
    assert torch.equal(kernel[:, :2], first)
    torch.testing.assert_close(kernel[:, 2], first.mean(1))


def test_structures_have_many_names_and_sides() -> None:
    source = plan_of(labels=("kidney_left", "kidney_right", "liver"))
    target = plan_of(labels=("Right Kidney", "spleen", "Liver", "leftKidney"))
    assert match_plans(source, target).outputs == (0, 2, None, 3, 1)
    assert match_plans(source, target, {"spleen": "liver", "Liver": "kidney_left"}).outputs[1:4] == (2, 3, 1)
    with pytest.raises(LabelError, match="no such structure"):
        match_plans(source, target, {"spleen": "bladder"})


def test_what_reconstructed_scans_has_no_structures_to_give() -> None:
    from delineate.training.reconstruction import reconstruction_plan

    assert match_plans(reconstruction_plan(plan_of()), plan_of()).outputs == (None, None, None)


def test_the_record_says_what_was_taken() -> None:
    source, target = plan_of(labels=("core", "rim")), plan_of(labels=("rim", "vessel"))
    weights = network_of(source, 1).state_dict()
    record = describe_transfer(weights, source, target, match_plans(source, target), digest="d")
    assert [(row.name, row.taken_from) for row in record.outputs][1:] == [("rim", ("rim",)), ("vessel", ())]
    assert record.adapted == fresh_names(target, match_plans(source, target))
    assert record.fresh == ()
    heads = sum(weights[name].numel() for name in record.adapted)
    assert record.taken_weights == record.weights - heads // 3


def test_another_network_is_refused() -> None:
    plan = plan_of()
    wider = msgspec.structs.replace(plan, network=msgspec.structs.replace(plan.network, features=(8, 16)))
    with pytest.raises(ModelError, match="weights are of another network"):
        carried(plan, wider, match_plans(plan, wider))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_an_encoder_rests_and_a_decoder_does_not(architecture: str) -> None:
    plan = plan_of(architecture)
    names = tuple(name for name, _ in network_of(plan, 0).named_parameters())
    fresh = fresh_names(plan, match_plans(plan, plan))
    encoder = resting_names(names, TransferPlan(source="", fresh=fresh, freeze="encoder"))
    backbone = resting_names(names, TransferPlan(source="", fresh=fresh, freeze="all_but_head"))
    assert encoder < backbone == set(names) - set(fresh)
    assert names[0] in encoder
    assert not encoder & {name for name in names if "up" in name or "decoder" in name or "head" in name}


def cases(plan: Plan) -> list[TrainingCase]:
    return [index_case(prepare(f"blob_{seed}", *blob_case(seed), plan), seed=0) for seed in range(2)]


def frozen_plan(architecture: str = "nnunet", **choices: object) -> Plan:
    plan = plan_of(architecture)
    plan = msgspec.structs.replace(plan, channels=("MR",))
    fresh = fresh_names(plan, match_plans(plan, plan))
    transfer = msgspec.structs.replace(TransferPlan(source="", fresh=fresh), **choices)
    return msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, transfer=transfer))


def take(state: TrainingState, plan: Plan, steps: int | None = None) -> TrainingState:
    for _ in islice(training.train(state, cases(plan), plan), steps):
        pass
    return state


@pytest.mark.parametrize("architecture", ["nnunet", "vnet"])
def test_what_is_frozen_moves_only_when_it_is_released(architecture: str) -> None:
    plan = frozen_plan(architecture, freeze="all_but_head", freeze_fraction=0.5)
    fresh = plan.training.transfer.fresh if plan.training.transfer else ()
    state = training.start(plan)
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    take(state, plan, 3)
    moved = {name for name, tensor in state.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert moved <= set(fresh)
    take(state, plan)
    assert state.facts.released == 3
    parameters = {name for name, _ in state.network.named_parameters()}
    moved = {name for name, p in state.network.named_parameters() if not torch.equal(p.data, before[name])}
    assert moved == parameters


def test_taken_weights_learn_more_slowly() -> None:
    plan = frozen_plan(backbone_rate=0.1)
    rates: dict[str, float] = {}
    state = take(training.start(plan), plan, 1)
    names = {id(parameter): name for name, parameter in state.network.named_parameters()}
    for group in state.optimiser.param_groups:
        rates |= {names[id(parameter)]: group["lr"] for parameter in group["params"]}
    head, body = rates["decoder.heads.0.weight"], rates["encoder.levels.0.0.conv.weight"]
    assert body == pytest.approx(0.1 * head)


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_run_stopped_about_the_release_ends_with_the_same_weights(stop: int) -> None:
    plan = frozen_plan(freeze="encoder", freeze_fraction=0.5, backbone_rate=0.3)
    whole, half = take(training.start(plan), plan), take(training.start(plan), plan, stop)
    facts = msgspec.json.decode(msgspec.json.encode(half.facts), type=training.Facts)
    resumed = take(training.unpack(training.pack(half), facts, plan), plan)
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, resumed.average[name]), name


def test_the_plan_follows_the_weights_and_the_person() -> None:
    source = tiny_plan(spacing_mm=(1.0, 1.5, 3.0), orientation="LPS", patch_size=(16, 16, 16))
    base = tiny_plan(labels=("liver",))
    plan = adopt(base, source, PlanOptions(patch_size=(8, 16, 8)))
    assert (plan.spacing_mm, plan.orientation, plan.patch_size) == (source.spacing_mm, "LPS", (8, 16, 8))
    assert (plan.network, plan.labels, plan.training) == (source.network, ("liver",), base.training)
    with pytest.raises(PlanError, match="multiple of the strides"):
        adopt(base, source, PlanOptions(patch_size=(9, 16, 8)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, a plan and a model."""
    folder = tmp_path_factory.mktemp("transfer")
    write_blobs(folder / "data", 4)
    (folder / "plan.json").write_text(plan_to_json(tiny_plan()))
    train(folder, "source", "--plan", str(folder / "plan.json"))
    return folder


def train(folder: Path, name: str, *words: str) -> str:
    machine = ["--device", "cpu", "--threads", "1", "--cache", str(folder / "cache"), "--hold-out", "1"]
    command = ["train", str(folder / "data"), str(folder / name), *machine, "--steps", "4", *words]
    result = CliRunner().invoke(main, command)
    return result.output if result.exit_code == 0 else f"{result.exit_code}: {result.output}"


def test_a_run_begins_with_a_model_and_goes_on_with_no_other(trained: Path) -> None:
    source = load_model(trained / "source")
    told = train(trained, "again", "--from", str(trained / "source"), "--freeze", "encoder", "--backbone-rate", "0.5")
    model = load_model(trained / "again")
    assert "tensors taken" in told
    assert model.plan.learnt_from == (source.digest,)
    assert model.plan.training.transfer == msgspec.structs.replace(
        TransferPlan(source=source.digest, freeze="encoder", backbone_rate=0.5),
        fresh=("decoder.heads.0.weight", "decoder.heads.0.bias"),
    )
    assert "began with another model" in train(trained, "again", "--from", str(trained / "again"))
    assert "did not begin with" in train(trained, "source", "--from", str(trained / "source"))


def test_begun_weights_are_in_the_network_and_in_its_average(trained: Path) -> None:
    data, settings_ = open_dataset(trained / "data"), detect("cpu", threads=1, cache=trained / "cache")
    beginning = Beginning(trained / "source")
    start = begin_from(data, trained / "new", beginning, division=Division(), settings=settings_)
    assert isinstance(start.plan, Plan)
    state = training.start(start.plan)
    start.course.begin(state)
    for name, tensor in load_model(trained / "source").weights.items():
        assert torch.equal(state.network.state_dict()[name], tensor), name
        assert torch.equal(state.average[name], tensor), name


def test_a_plan_with_another_network_or_without_its_model_is_refused(trained: Path) -> None:
    wider = tiny_plan(network=msgspec.structs.replace(tiny_plan().network, features=(8, 12)))
    (trained / "wider.json").write_text(plan_to_json(wider))
    words = ("--plan", str(trained / "wider.json"), "--from", str(trained / "source"))
    assert "another network than the model" in train(trained, "wider", *words)
    lost = msgspec.structs.replace(
        tiny_plan(), training=msgspec.structs.replace(tiny_plan().training, transfer=TransferPlan(source="abc"))
    )
    (trained / "lost.json").write_text(plan_to_json(lost))
    assert "begins with the weights of another model" in train(trained, "lost", "--plan", str(trained / "lost.json"))


def test_a_plan_says_its_transfer_in_sensible_numbers() -> None:
    plan = frozen_plan(backbone_rate=1.5)
    with pytest.raises(PlanError, match="backbone_rate"):
        plan_from_json(plan_to_json(plan))
    with pytest.raises(PlanError, match="does not have"):
        training.start(frozen_plan(fresh=("nowhere.weight",)))


def test_options_that_need_a_model_say_so(trained: Path) -> None:
    assert "--from MODEL" in train(trained, "x", "--freeze", "encoder")
    assert issubclass(TrainingError, DelineateError)
