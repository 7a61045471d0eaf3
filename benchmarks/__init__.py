"""Speed and memory, measured against what the hardware does at best. `make bench` runs all of it."""

from xpronet.common.threads import wait_asleep

wait_asleep()
