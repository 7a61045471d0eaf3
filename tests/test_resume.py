"""A run that was killed ends as one that never was; what it needs for that is whole, its own, and not for ever."""

import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages import resume
from stages import train as stage
from tests.conftest import ROOT, forking, largest_file
from tests.recorded import Studies
from tests.test_training import LOOP, Run
from tests.test_what_the_model_reads import no_meteor
from xpronet.app.reporter import Reporter
from xpronet.common.course import Course, Stopped
from xpronet.common.params import RuntimeParams, Strict
from xpronet.common.processes import LOST
from xpronet.common.shortage import memory_for
from xpronet.common.states import STALE, States
from xpronet.model.losses import Objective
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training.loop import optimiser, train

CPU = torch.device("cpu")


def test_a_run_killed_at_any_moment_ends_in_the_same_bytes():
    """Weights, metrics and history of stage train, with a frozen extractor or without, and of stage classify."""
    assert forking("from benchmarks import kills; print(kills.main(10, fresh=0))").endswith("[]")


class Killed(BaseException):
    """In place of SIGKILL: the run can do nothing about it."""


class Events(list):
    """What happens in a run; at one of them it is killed, or gets a signal."""

    def __init__(self, at: tuple[str, int], by: int | None):
        self.at, self.by = at, by

    def append(self, event: str) -> None:
        super().append(event)
        if (event, self.count(event)) == self.at:
            if self.by is None:
                raise Killed
            os.kill(os.getpid(), self.by)


class Saved(Run):
    """A run of tests/test_training.py whose states are saved; validation draws numbers, and ranks by the weights."""

    def __init__(self, folder, *, at: tuple[str, int] = ("", 0), by: int | None = None):
        super().__init__()
        self.events, self.folder, self.recorded = Events(at, by), folder, []

    def train(self, *, minutes: float = 0, about: str = "10", workers: int = 0, **changes) -> "Saved":
        objective = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)
        with States(self.folder, {"gamma": about, "xpronet/a.py": about}, minutes=minutes) as states:
            self.history = train(
                self.model,
                self.studies,
                LOOP.model_copy(update=changes),
                objective,
                validate=self.validate,
                save=self.save,
                record=lambda history, pace: self.recorded.append(len(history)),
                states=states,
                seed=1,
                device=CPU,
                workers=workers,
            )
        return self

    def validate(self, model) -> dict[str, float]:
        torch.rand(3)
        model.eval()
        self.events.append("validate")
        self.weights.append((model.visual.weight.item(), model.rest.item()))
        return dict.fromkeys(("BLEU_4", "BLEU_1", "METEOR"), abs(math.sin(300 * model.rest.item())))

    def save(self, model) -> None:
        self.saved.append((model.visual.weight.item(), model.rest.item()))
        self.events.append("save")

    def result(self) -> tuple:
        return self.history, self.saved[-1], self.weights[-1], self.draws[-1]


def test_a_model_whose_training_has_not_ended_is_told_until_it_has(made, monkeypatch, caplog):
    """Killed before its second validation it leaves a folder that looks like any other."""
    monkeypatch.setattr(stage, "running_meteor", lambda: nullcontext(no_meteor()))
    settings = {"train": {"epochs": 2, "freeze_epochs": 2, "crops": 1}}
    write, calls = stage.write_reports, []

    def killed(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return write(*arguments, **options)

    monkeypatch.setattr(stage, "write_reports", killed)
    with pytest.raises(Killed):
        made.run("train", **settings)

    def warned() -> int:
        shutil.rmtree("data/model/classifier")  # that of `made` has no network in it
        caplog.clear()
        Reporter.load("data/model", device="cpu")
        made.run("generate", **settings)
        return sum("data/model: its training has not ended" in line for line in caplog.messages)

    assert warned() == 2
    made.run("train", **settings)
    assert {path.name for path in Path("data/model").iterdir()} == {"weights.safetensors", "model.json", "classifier"}
    assert warned() == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Saved:
    run = Saved(tmp_path_factory.mktemp("whole")).train()
    assert run.saved[-1] not in (run.weights[0], run.weights[-1]) and run.recorded == [1, 2, 3, 4, 5, 6, 7]
    return run


@pytest.mark.parametrize("at", [("step", 1), ("step", 8), ("validate", 1), ("validate", 4), ("save", 2)])
@pytest.mark.parametrize("by", [None, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_ended_goes_on_to_the_same_result(whole, tmp_path, caplog, at, by):
    """A signal ends it after the step, or within validation at once; what DVC has removed meanwhile is there again."""
    killed = Saved(tmp_path, at=at, by=by)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Killed if by is None else Stopped) as end:
        killed.train(minutes=0 if by is None else 60)
    assert killed.events[-1] == ("step" if by is not None and at[0] == "save" else at[0])
    assert signal.getsignal(signal.SIGTERM) is before
    if by is not None:
        assert end.value.code == 128 + by
        assert re.search(f"^{by.name}: training ends .*: its state is saved, and the same command", caplog.messages[-1])
    again = Saved(tmp_path).train()
    assert again.result() == whole.result()
    epochs = killed.events.count("validate") - (at[0] == "validate")
    assert again.recorded[0] == max(epochs, 1)
    if by is not None or at[0] == "save":  # no step is taken twice
        assert len(killed.steps) + len(again.steps) == len(whole.steps)


def test_an_epoch_of_which_validation_alone_was_left_has_no_pace(tmp_path, caplog):
    """Its steps were taken before: 0 images/s would look like a training that hangs."""
    caplog.set_level(logging.INFO)
    with pytest.raises(Stopped):
        Saved(tmp_path, at=("validate", 2), by=signal.SIGTERM).train()
    caplog.clear()
    Saved(tmp_path).train()
    paces = [line for line in caplog.messages if "images/s" in line]
    assert [line.partition(":")[0] for line in paces] == [f"epoch {n}" for n in range(3, 8)]


def test_the_loss_scale_of_fp16_goes_on_where_it_was(tmp_path):
    """It has been halved by then; from its beginning, steps would be left out that were taken."""

    def overflowing(folder, **options) -> Saved:
        run = Saved(folder, **options)
        run.model.rest.register_hook(lambda gradient: torch.where(gradient.abs() > 2**14.5, torch.inf, gradient))
        return run

    expected = overflowing(tmp_path / "whole").train(precision="fp16")
    with pytest.raises(Killed):
        overflowing(tmp_path / "killed", at=("step", 8)).train(precision="fp16")
    again = overflowing(tmp_path / "killed").train(precision="fp16")
    assert again.result() == expected.result()
    assert [row["skipped"] for row in again.history] == [2, *[0] * 6]


def test_the_number_of_workers_may_change_on_the_way(whole, tmp_path):
    with pytest.raises(Killed):
        Saved(tmp_path, at=("step", 8)).train(workers=1)
    again = Saved(tmp_path).train()
    assert again.result() == whole.result()


def test_a_signal_that_comes_twice_ends_the_run_at_once(tmp_path):
    """In a step that never ends nothing is waited for."""
    code = "import sys; from tests.test_resume import get_two_signals; get_two_signals(sys.argv[1])"
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == -signal.SIGTERM


def get_two_signals(folder: str) -> None:
    run = Saved(Path(folder), at=("step", 2), by=signal.SIGTERM)
    forward = run.model.forward

    def again(*args, **options):
        output = forward(*args, **options)
        if len(run.steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return output

    run.model.forward = again
    run.train()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_at_the_very_edge_of_a_validation_is_no_success(tmp_path, number, code):
    """Where nobody catches it any more, or not yet: what DVC sees is the exit code."""
    course = Course.__new__(Course)
    course._handlers, course._validating = {}, True
    with pytest.raises(Stopped) as ended:
        course._asked(number, None)
    assert ended.value.code == code


def test_a_full_disk_is_a_line_and_training_goes_on(whole, tmp_path, caplog):
    """The states that were there stay, and a best epoch that found no room is saved when there is some."""
    killed = Saved(tmp_path, at=("validate", 3))
    with largest_file(4000), pytest.raises(Killed):
        killed.train()
    lines = [line for line in caplog.messages if "not saved" in line]
    expected = r"the state is not saved, and training goes on: .*\.safetensors: no room for [\d,]+ bytes, .*"
    assert len(lines) > 9 and all(re.fullmatch(expected, line) for line in lines)
    assert not list(tmp_path.rglob("0*.safetensors")) and not list(tmp_path.rglob(".*part*"))
    assert Saved(tmp_path).train().result() == whole.result()


def test_a_best_epoch_without_room_is_saved_later(whole, tmp_path, monkeypatch):
    best, room = States.save_best, []

    def save_best(self, epoch, tensors):
        room.append(epoch)
        if len(room) < 4:
            raise OSError(28, "No space left on device")
        best(self, epoch, tensors)

    monkeypatch.setattr(States, "save_best", save_best)
    with pytest.raises(Killed):
        Saved(tmp_path, at=("step", 7)).train()
    assert room[:4] == [0] * 4
    assert Saved(tmp_path).train().result() == whole.result()


def states(folder, **about: str) -> States:
    return States(folder, {"gamma": "10", "train.lr": "0.1", "xpronet/a.py": "x", **about}, minutes=0)


CONTENT = {"best": None, "epoch": 1}


def test_a_run_of_other_parameters_or_code_starts_afresh_and_says_what_differs(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with states(tmp_path) as first:
        assert first.load() is None and not caplog.messages
        first.save(1, CONTENT, {"a": torch.ones(2)})
    with states(tmp_path, **{"gamma": "15", "xpronet/a.py": "y"}) as other:
        assert other.load() is None
    assert caplog.messages == [
        f"{first.folder} is of another run (gamma 10, now 15; xpronet/a.py has changed): this one starts afresh"
    ]
    with states(tmp_path) as first:  # whose state has stayed
        assert first.load()[1]["a"].tolist() == [1, 1]


def test_a_run_killed_before_its_first_state_is_no_other_run(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with states(tmp_path):
        pass
    with states(tmp_path):
        assert not caplog.messages


def test_a_run_ends_where_the_lock_cannot_go_while_it_is_held(tmp_path, monkeypatch):
    """NFS keeps an open file in its folder under another name: the folder is not empty yet."""
    with states(tmp_path) as saved:
        saved.save(1, CONTENT, {"a": torch.ones(2)})
        (saved.folder / "lock").rename(saved.folder / ".nfs1")
        unlink = os.unlink
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", lambda path, **of: path == ".nfs1" or unlink(path, **of))
            saved.finish()
        assert [path.name for path in saved.folder.iterdir()] == [".nfs1"]
        (saved.folder / ".nfs1").unlink()  # as the server does when the lock is given back
    assert not saved.folder.exists()


def test_the_state_of_another_run_is_removed_after_a_week(tmp_path):
    with states(tmp_path) as first:
        first.save(1, CONTENT, {"a": torch.ones(2)})
    for path in first.folder.iterdir():
        os.utime(path, (time.time() - STALE - 5,) * 2)
    with states(tmp_path, gamma="15"):
        assert not first.folder.exists()


def test_the_last_two_states_stay_with_their_best_weights(tmp_path):
    with states(tmp_path) as saved:
        for step in range(4):
            saved.save_best(step, {"b": torch.tensor([step])})
            saved.save(step, {"best": step}, {"a": torch.tensor([step])})
        names = {path.name for path in saved.folder.glob("*.safetensors")}
        assert names == {"0000000002.safetensors", "0000000003.safetensors", "best-2.safetensors", "best-3.safetensors"}
    newest = saved.folder / "0000000003.safetensors"
    for wrong in (lambda: newest.write_bytes(newest.read_bytes()[:-4]), (saved.folder / "best-2.safetensors").unlink):
        wrong()  # by a crash of the machine
        with states(tmp_path) as again:
            found = again.load()
            if found:
                content, tensors, best = found
                assert (content["best"], tensors["a"].item(), best["b"].item()) == (2, 2, 2)
    assert found is None
    with states(tmp_path) as saved:
        saved.save(1, CONTENT, {"a": torch.ones(2)})
        saved.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("header", [{}, {"content": "{"}, {"content": "{}"}])
def test_a_state_whose_header_is_damaged_is_passed_over(tmp_path, header):
    with states(tmp_path) as saved:
        saved.save(1, CONTENT, {"a": torch.ones(2)})
        save_file({"a": torch.zeros(2)}, saved.folder / "0000000002.safetensors", header or None)
    with states(tmp_path) as again:
        assert again.load()[1]["a"].tolist() == [1, 1]


def test_a_run_that_ends_or_breaks_meanwhile_stops_no_other(tmp_path, monkeypatch):
    """Copies of the repository that `dvc exp run --queue` works in share the folder."""
    with states(tmp_path) as first:
        first.save(1, CONTENT, {"a": torch.ones(2)})
    (first.folder / "run.json").write_text("")
    with states(tmp_path, gamma="15"):
        pass
    listed = Path.iterdir
    gone = [first.folder / "0000000000.safetensors"]
    monkeypatch.setattr(Path, "iterdir", lambda path: [*listed(path), *(gone if path == first.folder else [])])
    with states(tmp_path, gamma="16") as other:
        assert other.load() is None


def test_the_same_training_is_refused_while_it_lives(tmp_path):
    """In another folder, say: a copy of the repository that `dvc exp run --temp` has made."""
    ends = os.pipe()
    child = os.fork()
    if not child:
        try:
            with states(tmp_path):
                os.write(ends[1], b"x")
                time.sleep(60)
        finally:
            os._exit(0)
    os.read(ends[0], 1)
    line = f"^{tmp_path}/[0-9a-f]+: this very training runs already: process {child}, "
    with pytest.raises(ValueError, match=line), states(tmp_path):
        pass
    with states(tmp_path, gamma="15"):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with states(tmp_path):
        pass


def test_states_belong_to_parameters_code_inputs_and_device(tmp_path, monkeypatch):
    """`runtime` reruns nothing, and so it starts nothing afresh. A copy of DVC's has its states in the repository."""

    class Params(Strict):
        gamma: int
        start: str = "extractor.safetensors"
        runtime: RuntimeParams

    def folder(gamma: int = 1, device: str = "cpu", workers: int = 0, threads: int | None = None):
        runtime = {"device": "cpu", "workers": workers, "processes": 1, "threads": threads, "batch_size": 1}
        runtime["save_minutes"] = 3
        found = resume.states("classify", Params(gamma=gamma, runtime=runtime), torch.device(device))
        assert found.minutes == 3
        return found.folder

    code = tmp_path / "code"
    for name in ("dvc.yaml", "stages/classify.py"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(resume, "CODE", code)
    copy = tmp_path / "repository/.dvc/tmp/exps/copy"
    (copy / "data/classifier").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    seen = [folder()]
    assert folder(workers=2) == folder(threads=2) == seen[0] and seen[0].parent.as_posix() == ".resume/classify"
    seen += [folder(gamma=2), folder(device="cuda")]
    (copy / "data/labels.csv").write_text("x")
    seen.append(folder())
    (code / "stages/classify.py").write_text("pass")
    seen.append(folder())
    for content in ("old weights", "new weights"):
        (copy / "extractor.safetensors").write_text(content)  # which a parameter names
        seen.append(folder())
    assert len(set(seen)) == 7
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    assert folder() == tmp_path / "repository/.resume/classify" / seen[-1].name
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    assert folder() == seen[-1]


def network() -> XProNet:
    torch.manual_seed(0)
    sizes = {"d_model": 8, "d_ff": 8, "heads": 2, "layers": 1, "n_prototypes": 12, "d_prototype": 4, "gamma": 1}
    sizes["prototype_dropout"] = 0.0
    return XProNet(ModelConfig(vocab_size=5, backbone="resnet18", **sizes))


def test_moments_lie_in_memory_as_their_weights_do(tmp_path):
    """A fused step walks through both side by side: transposed, each weight would take its neighbour's moments."""
    model = network()
    model.visual.freeze(True)
    found = []
    for steps in (1, 0):
        adam = optimiser(model, LOOP)
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1.0)
        with (
            States(tmp_path, {}, minutes=0) as saved,
            Course(model, adam, schedule, device=CPU, states=saved) as course,
        ):
            course.restore()
            for _ in range(steps):
                for parameter in model.parameters():
                    parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
                adam.step()
                course.finish_epoch({"a": 1.0}, 1.0, {})
        found.append({name: adam.state.get(parameter) for name, parameter in model.named_parameters()})
    for name, parameter in model.named_parameters():
        expected, restored = (each[name] for each in found)
        assert (restored is None) == name.startswith("visual."), name
        for key in restored or {}:
            assert torch.equal(expected[key], restored[key]), name
            assert key == "step" or restored[key].stride() == parameter.stride(), name


# ----- what the loop watches


def test_a_step_without_numbers_is_left_out_and_counted():
    """With its traces in the statistics of batch norm; the means are over the others."""
    run = Run()
    run.model.register_buffer("running", torch.zeros(()))
    forward = run.model.forward

    def moved(images, tokens, labels, *, views):
        bad = 3 in labels.argmax(dim=1) and len(run.steps) >= 3
        run.model.running += torch.nan if bad else 1
        run.model.nats[3] = torch.nan if bad else 8
        return forward(images, tokens, labels, views=views)

    run.model.forward = moved
    run.train(epochs=2, nonfinite="skip")
    first, second = run.history
    assert (first["skipped"], second["skipped"], run.model.running.item()) == (0, 1, 5)
    taken = [step["studies"] for step in run.steps[3:] if 3 not in step["studies"]]
    assert len(taken) == 2
    nats, descent = {0: 1, 1: 2, 2: 4, 4: 16}, 3 * 4e-3
    total = 0.0
    for studies in taken:
        total += sum(nats[study] - descent for study in studies)
        descent += 4e-3 / 2
    assert second["cross_entropy"] == pytest.approx(total / sum(map(len, taken)), rel=1e-4)


def test_an_epoch_of_no_numbers_at_all_ends_the_run():
    run = Run()
    run.model.nats.fill_(torch.nan)
    with pytest.raises(ValueError, match="epoch 1/7: every step is le"):
        run.train(nonfinite="skip")


def test_a_batch_without_numbers_is_saved_with_what_shows_it_again(tmp_path):
    run = Saved(tmp_path)
    run.model.nats[3] = torch.inf
    path = tmp_path / "nonfinite.safetensors"
    line = (
        r"^train epoch 1/7: the loss is not .* \(step \d: study .*3.*\); that batch, the weights and .* are in "
        + str(path)
    )
    with pytest.raises(ValueError, match=line) as error:
        run.train()
    assert "\n" not in str(error.value)
    found = load_file(path)
    studies = run.steps[-1]["studies"]
    assert found["batch/positions"].tolist() == studies and found["batch/pixels"].flatten()[0] == 50 * studies[0]
    assert found["module/rest"].item() == pytest.approx(3e-3 * (len(run.steps) - 1), rel=1e-4)  # before the step
    torch.set_rng_state(found["generators/cpu"])
    assert torch.rand(()).item() == run.draws[-1]


def test_a_gradient_without_numbers_is_told_from_a_loss():
    run = Run()
    run.model.rest.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(ValueError, match=r"^train epoch 1/7: the gradient is not a number any more; lower train.lr"):
        run.train()
    assert run.model.rest.item() == 0


@pytest.mark.parametrize("text", ["CUDA out of memory. Tried\nto", "DefaultCPUAllocator: can't allocate memory"])
def test_too_little_memory_names_what_keeps_the_result(text):
    run = Run()

    def forward(*args, **options):
        raise RuntimeError(text)

    run.model.forward = forward
    with pytest.raises(
        ValueError, match=r"^train epoch 1/7: out of memory \(.*\): raise train.accumulate = 1 or set train.checkpoint"
    ) as error:
        run.train()
    assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match="^shapes$"), memory_for("a", "b"):
        raise RuntimeError("shapes")


def test_what_cannot_be_had_is_not_advised_for_want_of_memory():
    """Where a batch is in as many parts as it has studies, and checkpointed, only a smaller one is left."""
    run = Run()

    def forward(*args, **options):
        raise MemoryError

    run.model.forward = forward
    with pytest.raises(
        ValueError, match=r"\(of the machine\): lower train.batch_size = 2, or set train.precision=bf16$"
    ):
        run.train(accumulate=2, checkpointing=True)


@pytest.mark.parametrize("first", [True, False])
def test_no_process_ends_before_the_batch_without_numbers_is_saved(tmp_path, first):
    """Else a launcher, or the first process itself, would end the one that still writes."""
    path, seen = tmp_path / "nonfinite.safetensors", []
    group = SimpleNamespace(first=first, gathered=lambda batch: [batch, batch], wait=lambda: seen.append(path.exists()))
    course = SimpleNamespace(
        _group=group, _states=SimpleNamespace(home=tmp_path), _drawn={}, done=4, module=torch.nn.Linear(1, 1)
    )
    batch, dataset = SimpleNamespace(positions=torch.tensor([3])), SimpleNamespace(name="study s{}".format)
    if first:
        line = f"^no number \\(step 5: study s3, study s3\\); that batch, .* are in {path}$"
        assert re.match(line, str(Course._unusable(course, batch, dataset, "no number")))
        assert load_file(path)["batch/positions"].tolist() == [3, 3]
    else:
        with pytest.raises(SystemExit, match=f"^{LOST}$"):
            Course._unusable(course, batch, dataset, "no number")
    assert seen == [first]


def test_prototypes_that_nobody_chose_are_counted():
    """Those of observations that no study has, and of the others where each token takes but one of twelve."""
    model = network()
    chosen = torch.zeros(14 * 12, dtype=torch.bool)
    memory = model.memory.forward

    def watched(x, keys, values, mask):
        queries, each = model.memory._split(model.memory.query(x).flatten(0, 1)), keys.transpose(-2, -1)
        scores = (queries @ each).unflatten(1, x.shape[:2]).masked_fill(~mask[None, :, None, :], -torch.inf)
        chosen[scores.argmax(dim=-1).flatten()] = True
        return memory(x, keys, values, mask)

    model.memory.forward = watched

    class Large(Studies):
        def __getitem__(self, item):
            pixels, *rest = super().__getitem__(item)
            return np.tile(pixels[:1], (1, 32, 32)), *rest  # patches of absent views choose too, to no effect

    dataset = Large(np.eye(14)[[2, 2, 5]])
    history = train(
        model,
        dataset,
        LOOP.model_copy(update={"epochs": 1, "batch_size": 3}),
        Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1),
        validate=lambda model: dict.fromkeys(("BLEU_4", "BLEU_1", "METEOR"), 0.0),
        save=lambda model: None,
        seed=1,
        device=CPU,
    )
    assert history[0]["unused_prototypes"] == (~chosen).sum().item() > 12 * 12


def test_a_loader_that_holds_up_training_is_told_once(caplog):
    run = Run()
    item = run.studies.__class__.__getitem__

    class Slow(Studies):
        def __getitem__(self, asked):
            time.sleep(0.02)
            return item(self, asked)

    run.studies = Slow(run.studies.labels)
    run.train(epochs=2)
    assert [line for line in caplog.messages if "holds up" in line] == [
        "loading data holds up training: more runtime.workers, or a faster disk"
    ]
