"""Raw data to studies and a pack: the phantom, Open-i, MIMIC-CXR, and decoding of images."""
