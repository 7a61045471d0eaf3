"""Intervals and strata are those of the reference packages' scores on the studies drawn, not of something like them."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from xpronet.evaluation import lexical, statistics
from xpronet.evaluation.diversity import diversity
from xpronet.labels import agreement
from xpronet.labels.conditions import CONDITIONS, NO_FINDING

WORDS = [
    *("the", "heart", "lungs", "are", "is", "clear", "normal", "no", "effusion", "left", "small", ".", ".", "opacity")
]
LEXICAL = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "METEOR", "ROUGE_L")


@pytest.fixture(scope="module")
def pairs():
    """30 references and hypotheses that share words; one equal pair, one empty hypothesis, one of one word."""
    random = np.random.default_rng(0)
    references = [" ".join(random.choice(WORDS, random.integers(5, 20))) for _ in range(30)]
    hypotheses = [" ".join(random.permutation(text.split())[: random.integers(3, 15)]) for text in references]
    hypotheses[0], hypotheses[1], hypotheses[2] = references[0], "", "heart"
    labels = random.random((2, 30, 14)) < 0.3
    return references, hypotheses, *labels.astype(np.float32)


@pytest.fixture(scope="module")
def table(pairs, jar):
    return statistics.table(*pairs, meteor=jar)


def test_over_all_studies_they_are_the_packages_scores(pairs, table, jar):
    expected = lexical.score(*pairs[:2], meteor=jar)
    found = statistics.of_all(table)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_resample_is_scored_as_if_its_reports_stood_there(pairs, table, jar, seed):
    """CIDEr aside, whose document frequencies stay those of the whole."""
    drawn = np.random.default_rng(seed).integers(0, 30, 30)
    weights = np.bincount(drawn, minlength=30).astype(float)
    references, hypotheses = ([texts[row] for row in drawn] for texts in pairs[:2])
    expected = lexical.score(references, hypotheses, meteor=jar)
    found = statistics.scores(table, weights[None])
    for name in LEXICAL:
        assert found[name][0] == pytest.approx(expected[name], abs=1e-9), name


def test_clinical_scores_are_scikit_learn_s(pairs, table):
    truth, written = pairs[2:]
    found, both = statistics.of_all(table), agreement.precision_recall(table.hits)
    precision, recall, f1, support = precision_recall_fscore_support(truth, written, zero_division=0)
    for k, name in enumerate(CONDITIONS):
        expected = {"precision": precision[k], "recall": recall[k], "F1": f1[k], "studies": support[k]}
        assert agreement.observations(table.hits)[name] == pytest.approx(expected)
    five = [CONDITIONS.index(n) for n in ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")]
    for name, columns in (("14", list(range(14))), ("5", five)):
        for average in ("micro", "macro"):
            reference = precision_recall_fscore_support(
                truth[:, columns], written[:, columns], average=average, zero_division=0
            )
            assert found[f"{average}_F1_{name}"] == pytest.approx(reference[2])
            assert both[f"{average}_precision_{name}"] == pytest.approx(reference[0])
            assert both[f"{average}_recall_{name}"] == pytest.approx(reference[1])
    samples = precision_recall_fscore_support(truth, written, average="samples", zero_division=0)
    assert found["example_F1"] == pytest.approx(samples[2])
    assert (both["example_precision"], both["example_recall"]) == pytest.approx(samples[:2])


def test_intervals_hold_the_value_and_depend_on_the_seed_alone(table):
    found, value = statistics.intervals(table, seed=1), statistics.of_all(table)
    assert found == statistics.intervals(table, seed=1) != statistics.intervals(table, seed=2)
    for name in (*LEXICAL, "CIDEr", "micro_F1_14"):
        low, high = found[name]
        assert low < value[name] < high


def test_an_interval_of_a_mean_is_as_wide_as_theory_says(table):
    """ROUGE-L is a mean: 1.96 standard errors on either side."""
    rouge = table.means[:, 0]
    low, high = statistics.intervals(table, seed=1, draws=20_000)["ROUGE_L"]
    assert high - low == pytest.approx(2 * 1.96 * rouge.std() / np.sqrt(len(rouge)), rel=0.05)


def test_a_stratum_is_scored_alone(pairs, table, jar):
    references, hypotheses, truth, _ = pairs
    groups = statistics.groups_of(truth, references, set(references[:7]))
    found = statistics.strata(table, groups)
    assert found["report_in_train"]["studies"] == 7 and found["report_not_in_train"]["studies"] == 23
    assert sum(found[name]["studies"] for name in ("short", "middle", "long")) == 30
    abnormal = np.delete(truth, NO_FINDING, axis=1).any(axis=1)
    assert found["with_findings"]["studies"] == abnormal.sum()
    rows = np.flatnonzero(abnormal)
    expected = lexical.score([references[r] for r in rows], [hypotheses[r] for r in rows], meteor=jar)
    for name in LEXICAL:
        assert found["with_findings"][name] == pytest.approx(expected[name], abs=1e-9)


@pytest.mark.parametrize(
    ("references", "reports", "collapsed"),
    [(18, 2, True), (18, 4, True), (18, 5, False), (100, 9, True), (100, 10, False), (590, 58, True), (590, 59, False)],
)
def test_what_collapsed_means(references, reports, collapsed):
    """√18 is 4.2: a share alone would let two reports pass for 18 studies."""
    found = diversity([f"r {n}" for n in range(references)], [f"h {n % reports}" for n in range(references)], seed=1)
    assert found["collapsed"] is collapsed and found["distinct_reports"] == reports


def test_references_that_are_all_the_same_collapse_no_model():
    assert not diversity(["clear"] * 9, ["clear"] * 9, seed=1)["collapsed"]


def test_a_collapsed_model_is_called_so():
    references = [f"report number {n} ." for n in range(50)]
    collapsed = diversity(references, ["report number 1 ."] * 50, seed=1)
    assert collapsed["collapsed"] and collapsed["distinct_reports"] == 1
    assert collapsed["self_BLEU_4"] == pytest.approx(1, abs=1e-6)
    varied = diversity(references, references, seed=1)
    assert not varied["collapsed"] and varied["length_ratio"] == 1
    assert varied["distinct_1"] == 53 / 200 and varied["distinct_2"] == (1 + 50 + 50) / 150
    assert varied["self_BLEU_4"] < 0.01
