"""The systems of Table 1, one module each behind the interface of `xpronet/model/system.py`; docs/systems.md."""
