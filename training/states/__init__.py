"""States on disk, where they come from, and how a run resumes."""
