"""Whose wording a report has: which of the phantom's sites would have written it."""

from collections.abc import Sequence

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline


def share_in_style(
    train: Sequence[str], train_sites: Sequence[str], written: Sequence[str], sites: Sequence[str]
) -> float:
    """Share of reports in the house style of their own study's site, by naive Bayes over runs of one to three words.

    Args:
        train: cleaned reports of known sites, `train_sites`.
        written: cleaned reports of a model, for studies of `sites`.
    """
    words = CountVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, 3))
    return float(make_pipeline(words, MultinomialNB()).fit(train, train_sites).score(written, sites))
