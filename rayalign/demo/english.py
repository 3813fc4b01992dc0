"""English prompts for a real model: topics put into phrasings. `configs/english.jsonl` is what this file prints.

python -m rayalign.demo.english > configs/english.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from rayalign.records import JsonObject


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    """As a sentence takes it: "rain", "a garden"."""
    about: str
    """Beginnings of words of which an answer on the topic has one, with spaces between them."""
    sentence: str
    """One on the topic, to be put in other words."""


_TABLE = """
rain | rain wet water cloud drop | The rain began at noon and kept falling until the streets were flooded.
snow | snow cold winter white ice | Heavy snow closed the road, and the children stayed at home all day.
the moon | moon night sky earth | The moon rose behind the hills and lit the path in front of us.
the sea | sea ocean water wave | The sea was rough that morning, so the fishing boats stayed in the harbour.
a river | river water stream flow | The river is wider here because two smaller streams flow into it.
a mountain | mountain climb peak high hill | It took the climbers nine hours to reach the top of the mountain.
a forest | forest tree wood | Few people know that the forest is older than the town beside it.
a garden | garden plant flower grow | She works in her garden every evening, whatever the weather is like.
a bee | bee honey flower insect | A bee visits hundreds of flowers before it returns to the hive.
a horse | horse ride animal | The horse was tired, but it carried its rider home safely.
a cat | cat pet animal | Our cat sleeps on the warm windowsill and ignores all visitors.
a dog | dog pet animal puppy | The dog barked because somebody was standing at the gate.
a bird | bird fly wing feather nest | The bird built its nest above our door, and nobody had the heart to move it.
bread | bread flour bak loaf | Fresh bread should cool for an hour before it is cut.
cheese | cheese milk | This cheese is stored in a cave for a year before it is sold.
coffee | coffee cup drink bean | He cannot start work before he has had two cups of coffee.
tea | tea cup drink leaf leaves | She pours the tea slowly, so that the leaves stay in the pot.
an apple | apple fruit tree eat | The apple fell from the tree and rolled down to the road.
soup | soup bowl cook hot | There was enough soup for everyone, although six guests came too late.
a kitchen | kitchen cook food | The kitchen is the room in which the whole family meets.
breakfast | breakfast morning eat food | We had breakfast outside because the morning was so warm.
a birthday | birthday cake party gift celebrat | For her birthday she asked for nothing but a quiet day.
a holiday | holiday travel trip rest day | Their holiday was short, yet they came back rested.
a train | train station rail travel | The train was delayed because a tree had fallen on the line.
a bicycle | bicycle bike ride wheel cycl | He repaired the old bicycle and gave it to his neighbour.
a bus | bus stop travel driver passenger | The last bus leaves at midnight, and it is usually full.
a boat | boat water sail sea ship | The boat is small, but it has crossed the lake a thousand times.
a bridge | bridge river cross | The old bridge was closed after engineers found cracks in it.
a city | city people street building town | The city grew so quickly that its streets could not keep up.
a village | village people house small town | Only forty people live in the village during the winter.
a market | market buy sell food shop | The market opens at six, and the best fruit is gone by eight.
a library | library book read | The library lends books, tools and even musical instruments.
a book | book read page story | I finished the book in one night, because I had to know how it ended.
a letter | letter write send mail paper | Her letter arrived three weeks after she had come home herself.
a school | school teach learn student child | The school has a garden in which every class grows vegetables.
a teacher | teach school student learn | The teacher explained the problem twice and then drew a picture.
a doctor | doctor patient health sick medic | The doctor told him to rest, drink water and worry less.
a hospital | hospital patient doctor nurse | The hospital was built beside a park, where patients could see trees.
sleep | sleep rest night bed dream | Good sleep helps people remember what they learned during the day.
a dream | dream sleep night mind | He woke from the dream and wrote it down before he forgot it.
music | music song sound listen | The music was so loud that nobody could hear the doorbell.
a song | song sing music | That song reminds her of the summer when she learned to drive.
dancing | danc music move | Dancing looks easy until one tries to do it in front of others.
football | football ball game team play | The football match was stopped when fog covered the field.
chess | chess game play board piece | They play chess by post and finish about one game a year.
painting | paint color colour art picture | Painting taught him to look at things longer than before.
a photograph | photo picture camera image | The photograph shows a street that no longer exists.
a computer | computer machine program data | The computer is old, but it does everything that I need.
a telephone | phone telephone call ring rang talk | The telephone rang four times before anybody got up.
a clock | clock time hour | The clock in the hall has been five minutes slow for years.
money | money pay buy cost bank save | He saved money for a year and then spent it in a week.
friendship | friend | Friendship grows slowly and can survive long silences.
patience | patien wait calm time | Patience is easier for those who have nothing to wait for.
a promise | promis word trust keep | She kept her promise, although it cost her a free weekend.
winter | winter cold snow season | In winter the lake freezes, and people walk across it to work.
summer | summer sun hot warm season | The summer was dry, so the farmers had to water their fields.
"""

PHRASINGS = {
    "explanation": ("Explain {name} to a child.", "What is {name}? Answer in one or two sentences."),
    "question": (
        "Why does {name} matter to people?",
        "What do many people get wrong about {name}?",
        "What would life be like without {name}?",
    ),
    "instruction": ("Give one piece of advice that has to do with {name}.", "Describe {name} in at most thirty words."),
    "list": (
        "Name three words that come to mind when you think of {name}, and say why in one sentence.",
        "Tell me one good thing and one bad thing about {name}.",
    ),
    "writing": ("Write one sentence about {name} for a school newspaper.", "Write a friend a short note about {name}."),
    "rewriting": ("Put this in simpler words: {sentence}", "Say the same in another way: {sentence}"),
}


def topics() -> list[Topic]:
    return [Topic(*(part.strip() for part in line.split("|"))) for line in _TABLE.strip().splitlines()]


def prompts() -> Iterator[JsonObject]:
    """Rows of a dataset of prompts: `prompt`, its `kind` and `topic`, and `about`: the topic's, as a list."""
    for topic in topics():
        for kind, phrasings in PHRASINGS.items():
            for phrasing in phrasings:
                prompt = phrasing.format(name=topic.name, sentence=topic.sentence)
                yield {"prompt": prompt, "kind": kind, "topic": topic.name, "about": topic.about.split()}


if __name__ == "__main__":
    for row in prompts():
        print(json.dumps(row))
