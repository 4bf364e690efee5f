"""Layouts of data folders: which files are images, and where their captions or labels are."""
