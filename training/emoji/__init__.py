"""EmojiScenes: images of 118 things from freely licensed emoji drawings, their captions, and what images show."""
