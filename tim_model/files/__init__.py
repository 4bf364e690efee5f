"""Files of tensors: reading, checking, writing, and their errors in one line."""
