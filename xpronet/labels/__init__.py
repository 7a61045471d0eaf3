"""The 14 CheXpert observations, their labellers, and label files."""
