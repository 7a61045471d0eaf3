"""Scoring at the size of MIMIC-CXR's test split, and the rule labeller on one core."""

import numpy as np

from benchmarks.measure import alternate, at_least, at_most
from xpronet.data.reports import clean_report
from xpronet.evaluation import lexical, statistics
from xpronet.evaluation.diversity import diversity
from xpronet.evaluation.meteor import running_meteor
from xpronet.labels import rules
from xpronet.labels.conditions import pseudo_labels
from xpronet.sources.phantom import source

STUDIES = 3858  # of the test split
SECONDS = 60  # on two cores
REPORTS = 20_000  # per second and core


def rows() -> list[dict]:
    studies = source.studies(train=10_000, val=0, test=0, seed=1)
    texts = list(dict.fromkeys(study.findings for study in studies))
    found, _ = alternate(lambda: rules.label(texts), lambda: None, repeats=5)
    references = [clean_report(study.findings, "iu_xray") for study in studies[:STUDIES]]
    hypotheses = list(np.random.default_rng(1).permutation(references))

    def everything() -> None:
        """Java's start, all scores, labels, diversity and 1,000 resamples."""
        labels = (pseudo_labels(rules.label(reports)) for reports in (references, hypotheses))
        with running_meteor() as meteor:
            table = statistics.table(references, hypotheses, *labels, meteor=meteor)
        statistics.of_all(table), statistics.intervals(table, seed=1), diversity(references, hypotheses, seed=1)

    ours, packages = alternate(everything, lambda: lexical.score(references, hypotheses), repeats=1)
    return [
        at_least("rule labeller, one core", len(texts) / found, REPORTS, 1, "reports/s"),
        at_most(f"all scores of {STUDIES:,} reports", ours, SECONDS, 1),
        at_most("  beside pycocoevalcap, no interval", ours, packages, 2),
    ]
