"""What EmojiScenes show: things by name, their drawings' code points, and the colors they can be given."""

from __future__ import annotations

# Plural and code point, by the name that prompts use. Of animals with two emoji it is the face, where it is clearer.
THINGS: dict[str, tuple[str, str]] = {
    "cat": ("cats", "1f431"), "dog": ("dogs", "1f436"), "fox": ("foxes", "1f98a"), "wolf": ("wolves", "1f43a"),
    "lion": ("lions", "1f981"), "tiger": ("tigers", "1f42f"), "horse": ("horses", "1f434"),
    "unicorn": ("unicorns", "1f984"), "zebra": ("zebras", "1f993"), "deer": ("deer", "1f98c"), "cow": ("cows", "1f42e"),
    "pig": ("pigs", "1f437"), "sheep": ("sheep", "1f411"), "camel": ("camels", "1f42a"), "llama": ("llamas", "1f999"),
    "giraffe": ("giraffes", "1f992"), "elephant": ("elephants", "1f418"), "mouse": ("mice", "1f42d"),
    "hamster": ("hamsters", "1f439"), "rabbit": ("rabbits", "1f430"), "hedgehog": ("hedgehogs", "1f994"),
    "bat": ("bats", "1f987"), "bear": ("bears", "1f43b"), "koala": ("koalas", "1f428"), "panda": ("pandas", "1f43c"),
    "monkey": ("monkeys", "1f435"), "chicken": ("chickens", "1f414"), "chick": ("chicks", "1f424"),
    "penguin": ("penguins", "1f427"), "duck": ("ducks", "1f986"), "swan": ("swans", "1f9a2"), "owl": ("owls", "1f989"),
    "flamingo": ("flamingos", "1f9a9"), "parrot": ("parrots", "1f99c"), "frog": ("frogs", "1f438"),
    "crocodile": ("crocodiles", "1f40a"), "turtle": ("turtles", "1f422"), "snake": ("snakes", "1f40d"),
    "dragon": ("dragons", "1f409"), "dinosaur": ("dinosaurs", "1f995"), "whale": ("whales", "1f433"),
    "dolphin": ("dolphins", "1f42c"), "fish": ("fish", "1f420"), "shark": ("sharks", "1f988"),
    "octopus": ("octopuses", "1f419"), "crab": ("crabs", "1f980"), "snail": ("snails", "1f40c"),
    "butterfly": ("butterflies", "1f98b"), "bee": ("bees", "1f41d"), "ladybug": ("ladybugs", "1f41e"),
    "spider": ("spiders", "1f577-fe0f"), "rose": ("roses", "1f339"), "sunflower": ("sunflowers", "1f33b"),
    "tulip": ("tulips", "1f337"), "cactus": ("cactuses", "1f335"), "palm tree": ("palm trees", "1f334"),
    "pine tree": ("pine trees", "1f332"), "mushroom": ("mushrooms", "1f344"), "clover": ("clovers", "1f340"),
    "maple leaf": ("maple leaves", "1f341"), "watermelon": ("watermelons", "1f349"), "lemon": ("lemons", "1f34b"),
    "banana": ("bananas", "1f34c"), "pineapple": ("pineapples", "1f34d"), "apple": ("apples", "1f34e"),
    "pear": ("pears", "1f350"), "peach": ("peaches", "1f351"), "cherry": ("cherries", "1f352"),
    "strawberry": ("strawberries", "1f353"), "tomato": ("tomatoes", "1f345"), "avocado": ("avocados", "1f951"),
    "eggplant": ("eggplants", "1f346"), "carrot": ("carrots", "1f955"),
    "broccoli": ("broccolis", "1f966"), "croissant": ("croissants", "1f950"), "pretzel": ("pretzels", "1f968"),
    "cheese": ("cheeses", "1f9c0"), "hamburger": ("hamburgers", "1f354"), "pizza": ("pizzas", "1f355"),
    "hot dog": ("hot dogs", "1f32d"), "fried egg": ("fried eggs", "1f373"), "ice cream": ("ice creams", "1f366"),
    "donut": ("donuts", "1f369"), "cookie": ("cookies", "1f36a"), "cake": ("cakes", "1f370"),
    "cupcake": ("cupcakes", "1f9c1"), "lollipop": ("lollipops", "1f36d"), "teapot": ("teapots", "1fad6"),
    "car": ("cars", "1f697"), "taxi": ("taxis", "1f695"), "bus": ("buses", "1f68c"), "truck": ("trucks", "1f69a"),
    "tractor": ("tractors", "1f69c"), "fire truck": ("fire trucks", "1f692"), "train": ("trains", "1f682"),
    "bicycle": ("bicycles", "1f6b2"), "airplane": ("airplanes", "2708-fe0f"), "helicopter": ("helicopters", "1f681"),
    "rocket": ("rockets", "1f680"), "sailboat": ("sailboats", "26f5"), "house": ("houses", "1f3e0"),
    "castle": ("castles", "1f3f0"), "umbrella": ("umbrellas", "2602-fe0f"), "snowman": ("snowmen", "26c4"),
    "star": ("stars", "2b50"), "moon": ("moons", "1f319"), "sun": ("suns", "1f31e"), "cloud": ("clouds", "2601-fe0f"),
    "rainbow": ("rainbows", "1f308"), "balloon": ("balloons", "1f388"), "gift": ("gifts", "1f381"),
    "soccer ball": ("soccer balls", "26bd"), "guitar": ("guitars", "1f3b8"), "bell": ("bells", "1f514"),
    "key": ("keys", "1f511"), "camera": ("cameras", "1f4f7"), "crown": ("crowns", "1f451"),
    "heart": ("hearts", "2764-fe0f"), "clock": ("clocks", "23f0"), "robot": ("robots", "1f916"),
}  # fmt: skip
NOT_MIRRORED = {"clock"}  # its sides matter

# Hue in turns and saturation of a thing in that color.
COLORS: dict[str, tuple[float, float]] = {
    "red": (0.0, 0.85), "orange": (0.075, 0.95), "yellow": (0.145, 0.95), "green": (0.36, 0.65), "cyan": (0.5, 0.8),
    "blue": (0.61, 0.85), "purple": (0.76, 0.65), "pink": (0.91, 0.85),
}  # fmt: skip

# Soft colors behind things, bytes; black only where a caption asks for it.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (250, 249, 245), "pink": (250, 214, 222), "orange": (255, 222, 184), "yellow": (255, 244, 196),
    "green": (208, 238, 208), "blue": (206, 222, 250), "purple": (228, 214, 246), "gray": (206, 210, 216),
    "black": (38, 38, 46),
}  # fmt: skip
ASKED_FOR = "black"

STYLES = ("noto", "3d", "flat")  # of drawings: Noto, Fluent 3D, Twemoji
NAMED_STYLES = STYLES[1:]  # those that captions can ask for
