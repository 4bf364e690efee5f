"""Many images: prompts from files, the layouts of evaluators, batches, shares of processes, what is there already."""
