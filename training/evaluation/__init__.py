"""Scores of images: drawing, recognizing, scoring."""
