"""A classifier of the 14 observations from images, its thresholds and its calibration."""
