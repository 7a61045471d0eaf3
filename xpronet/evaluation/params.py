"""Group `evaluate` of the parameters."""

from xpronet.data.params import Count, Path, Strict


class EvaluateParams(Strict):
    radgraph: Path | None  # folder with radgraph-xl/: adds RadGraph_F1
    bertscore: Path | None  # folder of a Hugging Face BERT: adds BERTScore
    bertscore_layer: Count | None  # whose vectors are compared; None takes the last
