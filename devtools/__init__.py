"""What the tests and the demo share: a real ComfyUI started, driven and stopped from Python."""
