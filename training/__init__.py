"""Training of Transition Models, from a folder of images to a file that ComfyUI loads. Imports tim_model only."""
