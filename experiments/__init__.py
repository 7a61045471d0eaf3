"""Experiments on the library: studies of many runs, and the pages that they write."""

from xpronet.common.threads import wait_asleep

wait_asleep()
