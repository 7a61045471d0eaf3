"""Group `evaluate` of the parameters."""

from xpronet.data.params import Count, Strict


class EvaluateParams(Strict):
    constant_candidates: Count  # how many distinct train reports compete for the constant floor
