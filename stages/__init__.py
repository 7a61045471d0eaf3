"""The stages of dvc.yaml: each loads, makes one call to the library, and saves."""

from xpronet.common.threads import wait_asleep

wait_asleep()  # here, because a stage imports PyTorch before it runs
