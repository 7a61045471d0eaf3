"""Whether an ablation lost must not depend on our arithmetic: the tests are held against SciPy's, metric by metric."""

import numpy as np
import pytest
from scipy import stats

from xpronet.evaluation import paired, statistics
from xpronet.evaluation.statistics import Table
from xpronet.labels import agreement


def table(seed: int, *, studies: int, shift: float = 0.0) -> Table:
    """Made-up sums of studies."""
    random = np.random.default_rng(seed)
    guesses = random.integers(10, 30, (studies, 1)) - np.arange(4)
    matches = (guesses * random.uniform(0.2, 0.5 + shift, (studies, 1))).astype(int)
    words = np.concatenate([guesses[:, :1], guesses[:, :1] + 2], axis=1)
    truth = np.random.default_rng(99).random((studies, 14)) < 0.4
    return Table(
        bleu=np.concatenate([matches, guesses, words], axis=1).astype(float),
        meteor=np.tile([20.0, 20, 9, 9, 5, 5, 5, 5, *[0.0] * 12, 4, 10, 10], (studies, 1)),
        means=random.random((studies, 3)) + shift,
        hits=agreement.hits(truth, truth ^ (random.random((studies, 14)) < 0.3 - shift)),
    )


def exact_p(a: Table, b: Table, metric: str) -> float:
    """SciPy's permutation test over all 2^N swaps, each scored as a corpus."""
    both, count = paired.joined([a, b]), len(a.means)

    def difference(rows_a, rows_b, axis=-1):
        first, second = (np.apply_along_axis(of_rows, -1, rows) for rows in (rows_a, rows_b))
        return second - first

    def of_rows(rows):
        return statistics.scores(both, np.bincount(rows.astype(int), minlength=2 * count)[None].astype(float))[metric][
            0
        ]

    rows = np.arange(count), np.arange(count) + count
    return stats.permutation_test(
        rows, difference, permutation_type="samples", vectorized=True, n_resamples=np.inf
    ).pvalue


@pytest.mark.parametrize("metric", ["ROUGE_L", "BLEU_4", "micro_F1_14"])
def test_approximate_randomisation_finds_the_exact_p_value(metric):
    a, b = table(1, studies=9), table(2, studies=9, shift=0.08)
    found = paired.paired(a, b, seed=1)[metric]
    assert found.p == pytest.approx(exact_p(a, b, metric), abs=0.02)


def test_the_interval_of_a_mean_is_scipy_s():
    a, b = table(1, studies=60), table(2, studies=60, shift=0.1)
    found = paired.paired(a, b, seed=1, draws=9_000, swaps=10)["ROUGE_L"]
    expected = stats.bootstrap(
        (b.means[:, 0] - a.means[:, 0],),
        np.mean,
        method="percentile",
        n_resamples=9_000,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.01)
    assert found.value == pytest.approx(float((b.means - a.means)[:, 0].mean()))


def test_a_model_does_not_differ_from_itself():
    a = table(1, studies=30)
    for found in paired.paired(a, a, seed=1, swaps=200).values():
        assert found.value == found.low == found.high == 0 and found.p == 1


def test_the_order_of_the_two_changes_the_sign_alone():
    a, b = table(1, studies=40), table(2, studies=40, shift=0.1)
    forward, back = paired.paired(a, b, seed=3, swaps=500), paired.paired(b, a, seed=3, swaps=500)
    for name, found in forward.items():
        assert back[name].value == -found.value
        assert (back[name].low, back[name].high) == pytest.approx((-found.high, -found.low))
        assert back[name].p == found.p


def test_by_chance_one_comparison_in_twenty_is_significant():
    """Two models that differ by noise alone: p is uniform."""
    p = [
        paired.paired(table(2 * n, studies=25), table(2 * n + 1, studies=25), seed=n, draws=2, swaps=200)["CIDEr"].p
        for n in range(300)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_holm_by_hand():
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.5, 0.6]) == [1, 1] and paired.holm([]) == []
