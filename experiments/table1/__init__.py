"""The systems of the paper's Table 1 on the phantom, with equal budgets. `make table1` runs all of it."""
