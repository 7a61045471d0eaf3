"""The 14 CheXpert observations: labellers of reports, and a classifier of images."""
