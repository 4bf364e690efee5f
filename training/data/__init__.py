"""Data: from a folder of files to batches."""
