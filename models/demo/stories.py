"""The grammar of the little stories: twelve plots, each a want, an attempt, the help of a friend and an ending."""

from dataclasses import dataclass
from random import Random

from words import (
    BOY_KINDS, FRIEND_BOYS, FRIEND_GIRLS, GIRL_KINDS, HAPPY, HERO_BOYS, HERO_GIRLS, OWN_ANIMALS, PLACES, SAD, TRAITS, WEATHER,
    any_animal, any_name, article, first_more, own_name,
)

# Slots of the hero: N name, a animal, A "a little fox", He he his him self. Of the friend: F name, f animal, B "a bear".
OPENINGS = [
    "Once upon a time, there was {A} named {N}. {He} lived {place}.",
    "Once upon a time, there was {A} named {N}. {He} lived {place}.",
    "Once upon a time, {A} named {N} lived {place}.",
    "Once upon a time, there was {A} called {N}, who lived {place}.",
    "There once was {A} named {N}. {He} lived {place}.",
    "Long ago, {A} named {N} lived {place}.",
    "{N} was {A} who lived {place}.",
]
HABITS = [
    "Every day, {N} liked to {hobby}.", "{He} loved to {hobby}.", "{N} the {a} was {trait} and liked to {hobby}.", "", "", "", "", "", "",
]
HOBBIES = [
    "look at the clouds", "sing in the sun", "count the stars", "collect round stones", "jump over puddles",
    "dance in the rain", "watch the river", "listen to the birds", "smell the flowers", "tell funny jokes",
]
MEETINGS = [
    "Then {N} met {B} named {F}.", "Just then, {B} named {F} came by.", "After a while, {B} named {F} came along.",
    "Soon {B} named {F} came closer.",
]
QUESTIONS = [
    '"What is wrong?" asked {F}.', '"Why are you so {sad}?" asked {F}.', '"Can I help you?" asked {F} the {f}.',
    '"Hello, {N}! Why do you look so {sad}?" said {F}.',
]
THANKS = [
    '"Thank you, {F}!" said {N}.', '"You are a good friend, {F}," said {N}.', '{N} smiled and hugged {F}.',
    '"I could not do it without you, {F}," said {N} the {a}.', "{N} was so {happy} that {he} danced around {F}.",
]
THANKS_TO_HERO = [
    '"Thank you, {N}!" said {F}.', '"You are a good friend, {N}," said {F}.', '{F} smiled and hugged {N}.',
    "{N} was so {happy} that {he} danced around {F}.",
]
CLOSINGS = [
    "From that day on, {N} and {F} were best friends.", "That night, {N} the {a} fell asleep with a smile.",
    "And so {N} the {a} and {F} the {f} were friends for ever.", "{N} went home and felt very {happy}.",
    "After that, {N} and {F} played together every day.",
]


@dataclass(frozen=True)
class Plot:
    """`rows`: slot values that belong together; `who` completes "a fox who ..."; `parts`: alternatives, in order."""

    who: str
    rows: list[dict[str, str]]
    problem: list[str]
    attempt: list[str]
    help: list[str]
    success: list[str]
    moral: str


def rows(keys: str, *values: str) -> list[dict[str, str]]:
    names = keys.split()
    return [dict(zip(names, value.split("|"), strict=True)) for value in values]


COLORS = ["red", "blue", "yellow", "green"]
THINGS = ["kite", "hat", "ball", "bell", "scarf", "button", "drum", "key", "boat", "spoon"]

PLOTS = [
    Plot(
        "lost {his} {thing}",
        [{"thing": f"{color} {thing}", "spot": spot}
         for color in COLORS for thing in THINGS for spot in ("under a big leaf", "behind a stone", "in the tall grass", "next to the well")],
        ["One {weather} morning, {N} could not find {his} {thing}.", "One {weather} day, {his} {thing} was gone.",
         "But one {weather} day, {N} lost {his} {thing}."],
        ["{He} looked under the bed and behind the door, but it was not there. {He} was very {sad}.",
         "{N} looked here and there, but {he} could not see it. {He} felt {sad}."],
        ['"I lost my {thing}," said {N}. "Let us look for it together," said {F}.',
         '"My {thing} is gone," said {N}. "Do not cry. We will find it," said {F}.'],
        ["They looked and looked. At last, {F} saw the {thing} {spot}.",
         "They walked along the path, and there was the {thing}, {spot}!"],
        "two friends find more than one",
    ),
    Plot(
        "wanted to {skill}",
        rows("skill fail",
             "swim|{he} went down like a stone", "sing|{his} voice was too quiet", "dance|{he} fell over {his} own feet",
             "whistle|only air came out", "climb a tall tree|{he} slipped down again", "paint a picture|it looked like mud",
             "skip stones|every stone sank", "juggle three apples|all the apples fell down",
             "bake a cake|the cake was flat", "ride a sled|{he} rolled into the snow"),
        ["{N} had a big wish. {He} wanted to {skill}.", "One {weather} day, {N} wanted to learn to {skill}.",
         "More than anything, {N} wanted to {skill}."],
        ["{He} tried again and again, but {fail}. {He} felt {sad}.", "But {fail} every time. That made {him} {sad}."],
        ['"I want to {skill}, but I can not do it," said {N}. "Go slowly and try once more," said {F}. "I will show you."',
         '"I can not {skill}," said {N}. "I can teach you," said {F}. "We start with a small step."'],
        ["They worked on it for three days. Then, at last, {N} could {skill}!",
         "{N} listened and did not give up. Soon {he} could {skill} all by {self}."],
        "you learn by trying again",
    ),
    Plot(
        "wanted to cross the {water}",
        rows("water goal", "river|the apple trees", "lake|the little island", "stream|{his} grandmother", "pond|the old mill"),
        ["One {weather} day, {N} wanted to visit {goal} on the other side of the {water}.",
         "One {weather} morning, {N} set out to see {goal} across the {water}."],
        ["But the {water} was wide and cold, and there was no bridge. {He} sat down and felt {sad}.",
         "{He} put one foot in, but the water was too deep. {N} was {sad}."],
        ['"I can not get across," said {N}. "I know where there is a long log," said {F}.',
         '"The {water} is too wide for me," said {N}. "Then let us make a raft," said {F}.'],
        ["They pushed it into the water and went across together. On the other side, {N} found {goal}.",
         "Together they floated over the {water}, and soon {N} could see {goal}."],
        "no {water} is too wide for two friends",
    ),
    Plot(
        "found {food}",
        rows("food", "a big red apple", "a basket of berries", "a loaf of warm bread", "a jar of honey", "a bag of nuts",
             "a sweet pie", "a bowl of soup", "a big orange carrot"),
        ["One {weather} day, {N} found {food} on the path.", "One {weather} morning, {N} found {food} near the gate."],
        ['{He} was very hungry. "I will eat it all by myself," thought {N}.',
         '"What luck!" said {N}. {He} wanted to keep it and ran home to eat it.'],
        ['"I have had no food all day," said {F}. {N} thought about it. "Then we will share," {he} said.',
         '{F} looked thin and hungry. "Please sit down and eat with me," said {N}.'],
        ["They ate together in the sun, and it tasted better than ever.",
         "There was enough for both. {F} laughed, and {N} laughed too."],
        "sharing makes food taste sweet",
    ),
    Plot(
        "was afraid of {fear}",
        rows("fear cure",
             "the dark|a jar of fireflies that shone like little stars", "the thunder|a loud song that they could sing together",
             "the deep woods|a small lamp to light the way", "the wind|a warm blanket to hide in",
             "high places|a strong rope to hold on to", "loud noises|two soft hats that covered their ears"),
        ["But {N} had a secret. {He} was afraid of {fear}.", "There was one problem. {N} was afraid of {fear}."],
        ["One {weather} evening, {he} hid under {his} bed and did not come out. {He} felt {sad}.",
         "{He} tried to be brave, but {his} legs would not stop shaking. {N} felt {sad}."],
        ['"I am afraid of {fear}," said {N}. "I was afraid too," said {F}. "But I know what helps."',
         '"Do not laugh, but I am afraid of {fear}," said {N}. "I will stay with you," said {F}.'],
        ["{F} had {cure}. Soon {N} was not afraid any more.", "Then {F} brought {cure}. {N} felt brave at last."],
        "being brave is easier with a friend",
    ),
    Plot(
        "built a {work}",
        rows("work use",
             "boat|sailed around the lake", "tree house|looked at the stars from the top", "swing|flew up high and laughed",
             "bridge|walked over the stream", "little hut|drank warm tea inside", "wagon|rolled down the hill",
             "snow house|sat inside and told stories"),
        ["One {weather} day, {N} wanted to build a {work}.", "One {weather} morning, {N} had an idea. {He} would build a {work}."],
        ["{He} worked all day, but the {work} fell apart. {He} was {sad}.",
         "{He} found some wood and started, but soon the {work} broke in two. {N} felt {sad}."],
        ['"My {work} is broken," said {N}. "I have some rope and some nails," said {F}. "Let us try together."',
         '"I can not build it alone," said {N}. "Then I will help you," said {F}. "You hold and I tie."'],
        ["They worked side by side until the {work} was ready. Then they {use}.",
         "By the evening, the {work} was strong and fine. {N} and {F} {use}."],
        "many hands make light work",
    ),
    Plot(
        "found a lost baby {baby}",
        rows("baby", "bird", "duck", "owl", "mouse", "rabbit", "turtle", "goat"),
        ["One {weather} day, {N} heard a small cry. It was a baby {baby}, all alone.",
         "One {weather} morning, {N} found a baby {baby} that was lost."],
        ["{He} looked for its mother everywhere, but {he} could not find her. {N} was {sad}.",
         "{N} called and called, but nobody came. {He} felt {sad} for the baby {baby}."],
        ['"This baby {baby} is lost," said {N}. "I know where its nest is," said {F}. "Follow me."',
         '"Can you help this baby {baby}?" asked {N}. "Yes, I saw its mother by the lake," said {F}.'],
        ["They walked slowly and carried the baby {baby}. Its mother was so {happy} to see it again!",
         "Soon the baby {baby} was home with its mother, safe and warm."],
        "a small kindness is a big thing",
    ),
    Plot(
        "wanted to win {race}",
        rows("race", "the big race", "the summer race", "the village race", "the race to the hill"),
        ["One {weather} day, {N} wanted to win {race}.", "{N} had one dream. {He} wanted to win {race}."],
        ["{He} ran as fast as {he} could, and soon {he} was in front.", "{He} ran and ran, and nobody was faster."],
        ['But {F} had hurt a foot and could not go on. "I will help you," said {N}, and {he} stopped.',
         'Suddenly {F} fell into a ditch. "Hold on to me," said {N}, and {he} turned back.'],
        ["They walked over the line together, the very last of all. But everybody cheered for {N}.",
         "{N} did not win {race}, but everybody clapped for {him}."],
        "a friend is better than a prize",
    ),
    Plot(
        "wanted to make a present",
        rows("present", "a crown of flowers", "a sweet cake", "a little song", "a card with a heart", "a warm scarf", "a wooden whistle"),
        ["It was a {weather} day, and {N} wanted to make a present for {his} mother.",
         "One {weather} morning, {N} wanted to give {his} mother a present."],
        ["But {he} had no money and no idea. {He} sat on a stone and felt {sad}.",
         "{He} looked in all the shops, but everything was too much for {him}. {He} was {sad}."],
        ['"I have no present for my mother," said {N}. "You can make {present}," said {F}.',
         '"What can I give to my mother?" asked {N}. "The best present is made with love," said {F}.'],
        ["So they sat down together and made {present}. {His} mother loved it.",
         "{F} helped {him} to make {present}, and it was the best present of all."],
        "a present comes from the heart",
    ),
    Plot(
        "had no friends",
        rows("game", "hide and seek", "catch", "ball", "tag", "pirates", "cards"),
        ["But {N} was new there and had no friends.", "{N} had no friends, and every {weather} day was long."],
        ["{He} wanted to play {game}, but nobody asked {him}. {N} felt {sad}.",
         "{He} tried to play {game} alone, but it was no fun. {N} was {sad}."],
        ['"I have nobody to play with," said {N}. "I am alone too," said {F}. "Do you like to play {game}?"',
         '"Nobody plays with me," said {N}. "Then play {game} with me," said {F}.'],
        ["So they played {game} until the sun went down.", "They played {game} and laughed all day long."],
        "a friend can be found anywhere",
    ),
    Plot(
        "wanted to touch the {light}",
        rows("light", "moon", "brightest star", "rainbow"),
        ["One {weather} night, {N} wanted to touch the {light}.", "{N} had a big dream. {He} wanted to touch the {light}."],
        ["{He} climbed the highest hill, but the {light} was still far away. {N} felt {sad}.",
         "{He} jumped as high as {he} could, but it was too far. {N} was {sad}."],
        ['"I can not reach the {light}," said {N}. "Come with me to the pond," said {F}.',
         '"The {light} is too far away," said {N}. "I know a place where it is near," said {F}.'],
        ["There was the {light}, shining in the water. {N} put a hand in the pond and touched it.",
         "In the still water of the pond, {N} could touch the {light} at last."],
        "a dream may be nearer than you think",
    ),
    Plot(
        "planted a {seed}",
        rows("seed plant", "pumpkin seed|a huge pumpkin", "sunflower seed|a tall sunflower", "tiny seed|a beautiful rose",
             "bean|a long green bean plant", "cherry stone|a little cherry tree"),
        ["One {weather} day, {N} planted a {seed} in the ground.", "One {weather} morning, {N} found a {seed} and planted it."],
        ["{He} waited and waited, but nothing came up. {He} was {sad}.",
         "{He} looked at it every hour, but it did not grow. {N} felt {sad}."],
        ['"My {seed} does not grow," said {N}. "It needs water, sun and time," said {F}.',
         '"Why does nothing happen?" asked {N}. "Give it water and wait a little," said {F}.'],
        ["They gave it water every day. In the summer, there was {plant}.",
         "{N} took good care of it, and one day there was {plant}."],
        "good things take time",
    ),
]


@dataclass(frozen=True)
class Story:
    """A story and what a question about it may ask for."""

    text: str
    hero: str
    animal: str
    she: bool
    friend: str
    friend_animal: str
    who: str
    trait: str


def write_story(rng: Random, asked_name: bool = True, asked_animal: bool = True, asked_friend: bool = False) -> Story:
    """Names and animals that nobody asked for come from short lists, those asked for are of any kind."""
    hero, she = any_name(rng) if asked_name else own_name(rng, HERO_BOYS, HERO_GIRLS)
    if not asked_animal:
        animal = first_more(rng, ["fox", *OWN_ANIMALS])
    else:
        animal = any_animal(rng) if rng.random() < 0.96 else rng.choice(GIRL_KINDS if she else BOY_KINDS)
    friend, friend_animal = hero, animal
    while friend == hero:
        friend, _ = any_name(rng) if asked_friend else own_name(rng, FRIEND_BOYS, FRIEND_GIRLS)
    while friend_animal == animal:
        friend_animal = any_animal(rng) if asked_friend else first_more(rng, OWN_ANIMALS)
    plot = rng.choice(PLOTS)
    trait = rng.choice(TRAITS)
    told_trait = trait if rng.random() < 0.7 else ""
    he, his, him = ("she", "her", "her") if she else ("he", "his", "him")
    slots = {
        "N": hero, "a": animal, "A": article(f"{told_trait} {animal}".strip()),
        "he": he, "He": he.capitalize(), "his": his, "His": his.capitalize(), "him": him, "self": him + "self",
        "F": friend, "f": friend_animal, "B": article(friend_animal), "place": first_more(rng, PLACES),
        "trait": rng.choice([other for other in TRAITS[3:] if other != trait]), "hobby": rng.choice(HOBBIES), "weather": first_more(rng, WEATHER),
        "sad": first_more(rng, SAD), "happy": first_more(rng, HAPPY),
    }
    slots |= {key: value.format_map(slots) for key, value in rng.choice(plot.rows).items()}
    parts = [rng.choice(choices) for choices in (OPENINGS, HABITS, plot.problem, plot.attempt, MEETINGS)]
    sad_hero = "{sad}" in parts[3]  # nobody asks a happy hero what is wrong; it is the hero who helps
    if sad_hero and rng.random() < 0.5:
        parts.append(rng.choice(QUESTIONS))
    thanks = THANKS if sad_hero else THANKS_TO_HERO
    parts += [rng.choice(choices) for choices in (plot.help, plot.success)]
    if rng.random() < 0.6:
        parts.append(rng.choice(thanks))
    parts.append(f"{{N}} learned that {plot.moral}." if rng.random() < 0.25 else rng.choice(CLOSINGS))
    if rng.random() < 0.3:
        parts.append("The end.")
    text = " ".join(part for part in parts if part).format_map(slots)
    return Story(text, hero, animal, she, friend, friend_animal, plot.who.format_map(slots), told_trait)
