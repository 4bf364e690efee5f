"""FashionScenes: images, captions, prompts."""
