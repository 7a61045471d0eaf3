"""XProNet itself, the default: its network is a room of its own, xpronet/model."""

from xpronet.model.xpronet import XProNet

SYSTEM = XProNet
