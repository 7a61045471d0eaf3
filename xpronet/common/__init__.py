"""Files, progress, devices, resumable work and parameters: nothing about radiology, nothing that decides a result."""
