"""Group `evaluate` of the parameters."""

from xpronet.common.params import Count, PathName, Strict


class EvaluateParams(Strict):
    """Group `evaluate`: scores that need extra packages and weights; null: do without."""

    radgraph: PathName | None
    """Folder with radgraph-xl/ of StanfordAIMI/RRG_scorers, for RadGraph-F1."""
    bertscore: PathName | None
    """Folder of a Hugging Face BERT, for BERTScore."""
    bertscore_layer: Count | None
    """Layer whose vectors BERTScore compares; null: the last."""
