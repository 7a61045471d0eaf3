"""The embedded dataset: procedural chest radiographs and their reports."""
