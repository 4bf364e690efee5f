"""The templates of `workflows/`: what each has in its graph, how it is laid out, its files and its thumbnail."""
