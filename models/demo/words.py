"""The words of the demo corpus: animals, names and made-up names, places, feelings."""

from random import Random

ANIMALS = (
    "fox rabbit bear mouse owl otter hedgehog squirrel deer badger frog turtle duck cat dog puppy kitten wolf lion "
    "tiger elephant monkey panda koala raccoon beaver mole goat lamb pony donkey pig cow hen goose penguin sparrow "
    "crow parrot hamster"
).split()

RARE_ANIMALS = (
    "dragon unicorn robot platypus lizard snail bee ladybug camel giraffe zebra kangaroo llama alpaca moose ferret "
    "seal walrus whale dolphin crab octopus snake gecko newt toad weasel chipmunk bat swan robin raven eagle hawk "
    "rooster horse sheep yak lemur sloth wombat dinosaur ghost troll elf fairy hippo rhino leopard cheetah jaguar "
    "lynx skunk ant spider beetle butterfly caterpillar worm cricket turkey peacock flamingo ostrich pelican stork "
    "axolotl meerkat mongoose armadillo bison buffalo chicken calf cub fawn gorilla iguana jellyfish marmot shrew child knight wizard pirate monster snowman"
).split()
BOY_KINDS, GIRL_KINDS = ["boy", "prince", "king"], ["girl", "princess", "queen"]

BOYS = (
    "Milo Max Oliver Leo Finn Toby Sam Ben Jack Theo Oscar Felix Hugo Otto Gus Archie Charlie Henry Bruno Rufus Barney "
    "Jasper Louis Noah Eli Ezra Arlo Ollie Teddy Albert Alfie Arthur Basil Bobby Boris Caleb Carl Cedric Chester Clive "
    "Colin Cosmo Dexter Diego Dylan Eddie Edgar Elliot Emil Ernie Ethan Frank Fred George Gordon Graham Harry Hector "
    "Herbert Howard Ian Igor Isaac Ivan Jake James Jerry Joe Jonas Kai Karl Ken Kevin Kit Lars Lenny Liam Logan Lucas "
    "Luke Marcus Mark Martin Marvin Mickey Morris Ned Nico Noel Norman Omar Oswald Owen Pablo Patrick Paul Percy Peter "
    "Pip Quentin Quinn Ralph Remy Rex Robin Roger Roland Ron Rory Rusty Scout Simon Sid Stanley Sven Thomas Tim Tom "
    "Tony Ulric Victor Vincent Wally Walter Wilbur Will Winston Yuri Zach Zeke Ziggy José Søren Björn André Łukasz"
).split()

GIRLS = (
    "Lily Luna Bella Daisy Rosie Molly Ruby Ella Mia Zoe Chloe Sophie Emma Ava Ivy Hazel Poppy Willow Maisie Nora Ada "
    "Agnes Alice Amber Amy Anna Annie April Aria Betty Bonnie Bridget Cara Carmen Cleo Clara Coco Cora Dora Dot Dolly "
    "Edith Elsa Elsie Emily Esme Eva Faye Fern Fiona Flora Frida Gemma Gina Ginger Gloria Grace Greta Gwen Hannah Heidi "
    "Helen Holly Honey Ida Ines Iris Isla Jane Jasmine Jenny Jill Josie Joy Julia June Kate Katie Kiki Kim Kira Lara "
    "Laura Lena Lola Lottie Lucy Lulu Mabel Maggie Mara Maria Martha Matilda Maya Meg Millie Mimi Minnie Misty Nadia "
    "Nelly Nina Olive Olivia Pearl Penny Petra Phoebe Pia Polly Rita Rosa Sadie Sally Sara Stella Susie Tara Tess Tilly "
    "Tina Trixie Una Vera Violet Wanda Wendy Willa Winnie Yara Zara Zelda Zoë Chloé Inés Renée Anaïs"
).split()

# What a story picks itself. Heroes and their friends have different names, so that greedy decoding does not confuse them.
HERO_BOYS, HERO_GIRLS = "Toby Bruno Felix Rufus Jasper Arlo".split(), "Molly Poppy Bella Ivy Maisie Luna".split()
FRIEND_BOYS = "Ben Tom Max Leo Sam Finn Oscar Hugo Gus Theo".split()
FRIEND_GIRLS = "Rosie Ella Nora Ruby Daisy Mia Ada Hazel Clara".split()
OWN_ANIMALS = "badger bear mouse owl squirrel hedgehog frog turtle duck cat otter deer crow rabbit".split()

ONSETS = "b c d f g h j k l m n p r s t v w z br cr dr fl fr gl gr kl pl pr sh sk sl sn st th tr ch qu tw wh x y".split()
VOWELS = "a e i o u a e i o u ee oo ai ea ou y".split()
CODAS = ["", "", "", "", "n", "r", "l", "m", "s", "t", "x", "k", "ck", "ff", "nd", "rt", "b", "p", "g", "sh", "zz"]
BOY_ENDS = "o o o us in er ix y en or am ik on ot ak im".split()
GIRL_ENDS = "a a a ie ie ella ina ia elle ara ora ita".split()
ACCENTS = {"a": "á", "e": "é", "i": "ï", "o": "ö", "u": "ü"}
BOY_TITLES = ["Mr.", "Captain", "Sir", "Doctor", "King"]
GIRL_TITLES = ["Mrs.", "Miss", "Lady", "Doctor", "Queen"]

PLACES = [
    "in a quiet forest", "in a green valley", "in a small village", "in a sunny meadow", "under an old oak tree",
    "in a cozy burrow", "in a tiny house by the river", "in a little red barn", "in the hills near the sea",
    "in a garden full of flowers", "at the edge of the woods", "on a snowy mountain", "on a big farm", "by a blue lake",
]
WEATHER = ["sunny", "rainy", "windy", "cold", "warm", "foggy", "bright", "snowy", "quiet", "cloudy"]
TRAITS = ["little", "small", "young", "kind", "brave", "curious", "shy", "clever", "cheerful", "sleepy", "gentle"]
SAD = ["sad", "worried", "unhappy", "upset", "gloomy"]
HAPPY = ["happy", "glad", "proud", "cheerful", "joyful"]


def article(noun: str) -> str:
    """`noun` with its indefinite article: "an owl", "a unicorn"."""
    vowel = noun[0].lower() in "aeiou" and not noun.startswith("uni")
    return f"{'an' if vowel else 'a'} {noun}"


def syllables(rng: Random, count: int) -> str:
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(count))


def made_up_name(rng: Random) -> tuple[str, bool]:
    """A name that is in no list, and whether it is a "she": the ending tells. So the model must copy, not recall."""
    she = rng.random() < 0.5
    kind = rng.random()
    if kind < 0.6:
        stem = syllables(rng, rng.choice((1, 1, 1, 1, 2)))
    elif kind < 0.85:  # two halves of known names
        stem = rng.choice(BOYS + GIRLS)[: rng.choice((2, 3, 4))] + rng.choice(BOYS + GIRLS)[-rng.choice((2, 3)) :]
    else:
        stem = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.choice((2, 3, 4))))
    joint = "" if stem[-1] not in "aeiouy" else rng.choice("lnrmtvdkb")
    name = stem + ("" if kind >= 0.6 and not she and rng.random() < 0.6 else joint + rng.choice(GIRL_ENDS if she else BOY_ENDS))
    if rng.random() < 0.06:
        vowel = rng.choice([letter for letter in name if letter in ACCENTS] or ["a"])
        name = name.replace(vowel, ACCENTS.get(vowel, vowel), 1)
    return name.capitalize(), she


def any_name(rng: Random) -> tuple[str, bool]:
    """A name that somebody asks for, and whether it is a "she"."""
    kind = rng.random()
    if kind < 0.5:
        name, she = made_up_name(rng)
    else:
        she = rng.random() < 0.5
        name = rng.choice(GIRLS if she else BOYS)
    if rng.random() < 0.03:
        name = f"{rng.choice(GIRL_TITLES if she else BOY_TITLES)} {name}"
    return name, she


def first_more(rng: Random, choices: list[str]) -> str:
    """The first choices more often (weights 1, 1/2, 1/3 ...): then greedy decoding has a clear favourite."""
    return rng.choices(choices, [1 / rank for rank in range(1, len(choices) + 1)])[0]


def own_name(rng: Random, boys: list[str], girls: list[str]) -> tuple[str, bool]:
    """A name that the story picks itself, and whether it is a "she"."""
    she = rng.random() < 0.55
    return first_more(rng, girls if she else boys), she


def any_animal(rng: Random) -> str:
    """An animal that somebody asks for; now and then a word that is no animal at all."""
    kind = rng.random()
    if kind < 0.05:
        return syllables(rng, rng.choice((1, 2, 2)))
    return rng.choice(ANIMALS) if kind < 0.70 else rng.choice(RARE_ANIMALS)
