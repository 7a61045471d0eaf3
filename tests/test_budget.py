"""Who asks for machines by docs/scaling.md's tables gets what the code needs, and counts it again for his own."""

from pathlib import Path

import pytest

from benchmarks import budget
from stages.check import Params
from xpronet.common.params import read

ROOT = Path(__file__).resolve().parents[1]
PARAMS = read(Params, ROOT / "presets/mimic_cxr.yaml")


def test_the_tables_are_what_the_command_prints():
    written = (ROOT / "docs/scaling.md").read_text()
    for part in budget.table(PARAMS).split("\n\n"):
        assert part in written


def test_costs_are_those_of_the_published_network():
    """ResNet-101: 7.8 billion multiplications an image of 224 pixels and 44,549,160 weights; CheXbert: a BERT-base."""
    found = budget.classifier_cost(PARAMS)
    assert found.forward / 2 == pytest.approx(7.8e9, rel=0.01)
    assert found.weights == 44_549_160 - 1000 * 2049 + 14 * 2049
    assert found.step == pytest.approx(3 * found.forward, rel=0.02)
    assert budget.report_cost()[0] == pytest.approx(110e6 - 0.6e6, rel=0.01)  # without the pooler


def test_what_this_machine_sustains_is_measured():
    params = read(Params, ROOT / "presets/phantom.yaml")
    small = params.model_copy(update={"train": params.train.model_copy(update={"batch_size": 2})})
    device, rate, unit, flops, *_ = budget.measure(small, steps=1).split()
    assert unit == "studies/s," and float(rate) > 0 and float(flops) > 0 and device.endswith(":")
