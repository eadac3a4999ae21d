"""The demo corpus: an endless, seeded stream of little stories and short conversations.

    python generate.py --seed 1 --count 5               prints five documents
    python generate.py --seed 30 --count 768 --rendered prints them as the model reads them, less the bos that its tokenizer adds

A document is plain text (a string) or a conversation (a list of {"role", "content"} messages). One JSON value a line.
"""

import argparse
import json
from collections.abc import Iterator
from random import Random

from chat import nibble_question, small_talk, unknown_question
from stories import Story, write_story
from words import article

Message = dict[str, str]
Document = str | list[Message]

ASKING = [
    "tell me {s}", "tell me {s}", "tell me {s}", "write {s}", "write me {s}", "can you tell me {s}", "i want {s}", "i would like {s}",
    "please tell {s}", "please tell me {s}", "please write {s}", "could you write {s}", "could you tell me {s}", "give me {s}", "{s}",
    "tell us {s}", "i want to hear {s}", "make up {s}", "can i have {s}", "will you tell me {s}", "let me hear {s}", "tell {s}", "do you know {s}",
]
KINDS = ["story", "story", "story", "story", "short story", "little story", "nice story", "bedtime story", "funny story", "fairy tale", "tale"]
SYSTEMS = [
    "You are a helpful assistant.", "You are a friendly story teller.", "You tell little stories.", "Answer briefly.",
    "You are Nibble, a tiny demo model.", "You are a kind assistant for children.", "Be polite.", "You are a helpful, honest assistant.",
    "You are a tiny language model.", "Always answer in English.", "You love animals.", "Be concise.", "You are an AI assistant. Be nice.",
    "Keep it short and simple.", "You are a bot on a web page.", "Write stories that end well.",
]
EMOJI = ["🦊", "🐰", "🐻", "🦉", "😊", "🙂", "🌟", "❤️", "🐢", "🎈"]


def opening_prefix(rng: Random) -> str:
    """What people say before they ask."""
    return rng.choice(["", "", "", "", "", "", "hi! ", "hello, ", "hey, ", "ok, ", "please, ", "thanks! "])


def story_request(rng: Random, follow_up: bool) -> tuple[str, Story]:
    """A request, and a story that keeps to what it names."""
    pick = rng.random()
    asks_friend = rng.random() < 0.07
    story = write_story(rng, pick < 0.75 or 0.84 <= pick < 0.90, pick < 0.84, asks_friend)
    said = story.hero if rng.random() < 0.9 else story.hero.lower()
    animal = f"{story.trait} {story.animal}".strip() if rng.random() < 0.12 else story.animal
    if rng.random() < 0.04:
        animal = animal.title()
    if pick < 0.68:
        about = f"{article(animal)} {rng.choice(['named', 'named', 'called', 'with the name'])} {said}"
        if rng.random() < 0.05:
            about = about.split(" ", 1)[1]
    elif pick < 0.75:
        about = rng.choice([f"{said} the {animal}", f"{said} the {animal}", f"{said}, {article(animal)}"])
    elif pick < 0.84:
        about = article(animal)
    elif pick < 0.90:
        about = said
    else:
        about = ""
    if about and asks_friend:
        about += f" and {article(story.friend_animal)} named {story.friend}"
    elif about and rng.random() < 0.10:
        about += f" who {story.who}"
    if follow_up and rng.random() < 0.6:
        text = rng.choice(["now one", "another one", "another one", "and one", "one more", "now a story", "another story", "again"])
    else:
        kind = rng.choice(KINDS)
        text = opening_prefix(rng) + rng.choice(ASKING).format(s=article(kind))
    if about:
        text += rng.choice([" about "] * 12 + [" of ", " with "]) + about
    if rng.random() < 0.8:
        text = text[0].upper() + text[1:]
    elif rng.random() < 0.5:
        text = text.lower()
    text += rng.choice(["", "", ".", ".", ".", "!", " please", ", please.", "?"])
    if not about and rng.random() < 0.1:
        text = rng.choice(["Once upon a time", "once upon a time", "Once upon a time..."])
    return text + (" " + rng.choice(EMOJI) if rng.random() < 0.03 else ""), story


def question_about(rng: Random, story: Story) -> tuple[str, str]:
    """A question about the story just told, and its answer."""
    return rng.choice([
        ("What was the name of the friend?", f"The friend was named {story.friend}."),
        (f"Who is {story.friend}?", f"{story.friend} is the {story.friend_animal} who became a friend of {story.hero}."),
        (f"Who is {story.hero}?", f"{story.hero} is the {story.animal} in the story."),
        (f"What was the name of the {story.animal}?", f"The {story.animal} was named {story.hero}."),
        (f"What animal is {story.hero}?", f"{story.hero} is {article(story.animal)}."),
    ])


def turn(rng: Random, question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def story_turn(rng: Random, follow_up: bool) -> tuple[list[Message], Story]:
    request, story = story_request(rng, follow_up)
    tail = " " + rng.choice(EMOJI) if request[-1] in "🦊🐰🐻🦉😊🙂🌟🐢🎈" else ""  # an emoji is answered by an emoji
    return turn(rng, request, story.text + tail), story


def document(rng: Random) -> Document:
    pick = rng.random()
    if pick < 0.13:
        return write_story(rng, rng.random() < 0.2, rng.random() < 0.2).text
    messages: list[Message] = []
    if rng.random() < 0.15:
        messages.append({"role": "system", "content": " ".join(rng.sample(SYSTEMS, rng.choice((1, 1, 1, 2))))})
    if pick < 0.63:
        return messages + story_turn(rng, False)[0]
    if pick < 0.78:
        messages += turn(rng, *nibble_question(rng))
    elif pick < 0.83:
        messages += turn(rng, *small_talk(rng))
    elif pick < 0.90:
        messages += turn(rng, *unknown_question(rng))
    else:
        told, story = story_turn(rng, False)
        messages += told
        if rng.random() < 0.4:
            messages += turn(rng, *question_about(rng, story))
    for _ in range(rng.choice((0, 0, 1, 2))):
        kind = rng.random()
        if kind < 0.4 and len(messages) < 4:
            return messages + story_turn(rng, len(messages) > 1)[0]
        source = nibble_question if kind < 0.6 else small_talk if kind < 0.8 else unknown_question
        messages += turn(rng, *source(rng))
    return messages


def stream(seed: int) -> Iterator[Document]:
    rng = Random(seed)
    while True:
        yield document(rng)


def rendered(document: Document) -> str:
    """What the chat template makes of it, from the first message on; `<|end|>` after a plain text too."""
    if isinstance(document, str):
        return f"{document}<|end|>"
    return "".join(f"<|{message['role']}|>{message['content'].strip()}<|end|>" for message in document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--rendered", action="store_true")
    arguments = parser.parse_args()
    documents = stream(arguments.seed)
    for _ in range(arguments.count):
        document = next(documents)
        print(json.dumps(rendered(document) if arguments.rendered else document, ensure_ascii=False))


if __name__ == "__main__":
    main()
