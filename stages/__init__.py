"""The stages of dvc.yaml: each loads, makes one call to the library, and saves."""
