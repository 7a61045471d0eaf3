"""The paper's ablations and sweeps over several seeds. `make ablations` runs all of it."""
