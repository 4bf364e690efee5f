"""Which words of a prompt mean the same, so that an encoder of few words knows what people write."""

from __future__ import annotations

from .things import THINGS

# Articles, and words around what a prompt asks for, which change nothing.
LEFT_OUT = (
    "a", "an", "the", "some", "of", "photo", "picture", "image", "drawing", "illustration", "emoji", "icon", "there",
    "is", "are", "single", "exactly", "together", "colored", "background", "style", "please", "show", "showing", "me",
    "draw", "this", "these", "here",
)  # fmt: skip
SYNONYMS = {
    "1": "one", "2": "two", "3": "three", "4": "four", "pair": "two", "grey": "gray", "violet": "purple",
    "turquoise": "cyan", "kitten": "cat", "kitty": "cat", "puppy": "dog", "bunny": "rabbit", "teddy": "bear",
    "pony": "horse", "piglet": "pig", "duckling": "chick", "doughnut": "donut", "burger": "hamburger",
    "cheeseburger": "hamburger", "bike": "bicycle", "plane": "airplane", "aeroplane": "airplane", "boat": "sailboat",
    "lorry": "truck", "automobile": "car", "present": "gift", "aubergine": "eggplant",
    "alarm clock": "clock", "3 d": "3d", "3-d": "3d", "with": "and", "beside": "and", "plus": "and",
    "to the left of": "left", "on the left of": "left", "left of": "left", "to the right of": "right",
    "on the right of": "right", "right of": "right", "on top of": "above", "over": "above", "beneath": "below",
    "under": "below", "underneath": "below", "next to": "and", "in front of": "on",
}  # fmt: skip
ONE = "one"  # a thing without a number is one


def replacements() -> list[tuple[str, str]]:
    """What is replaced by what in prompts of lower case, in this order; longer texts come before their parts.

    Each thing becomes one word ("hot dogs": "hot-dog"), and numbers alone tell how many there are.
    """
    pairs = dict(SYNONYMS)
    for name, (plural, _) in THINGS.items():
        word = name.replace(" ", "-")
        pairs |= {text: word for text in (plural, name) if text != word}
    for name, word in SYNONYMS.items():
        pairs |= {plural: word for plural in (f"{name}s",) if word in THINGS}
    ordered = sorted(pairs.items(), key=lambda pair: (-len(pair[0].split()), pair[0]))
    return [*ordered, *((word, "") for word in (*LEFT_OUT, ONE))]
