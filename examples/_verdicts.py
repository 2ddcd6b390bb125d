"""A small text classification set: is the verdict of a sentence good or bad?

Every adjective is used both affirmed and denied ("was superb", "was anything but superb"),
equally often, so the words alone do not give the answer: a model has to read what is
said about them. The held-out sentences share no template, no adjective and no noun
with the training sentences.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """What sentences are built of; `denied` templates turn the adjective around."""

    affirmed: tuple[str, ...]
    denied: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    nouns: tuple[str, ...]


TRAIN = Vocabulary(
    affirmed=(
        "The {noun} was {adjective}.",
        "We found the {noun} truly {adjective}.",
        "Nobody doubts that the {noun} was {adjective}.",
        "I was not told that the {noun} would be so {adjective}.",
        "Not only my friends called the {noun} {adjective}.",
        "No one here had ever seen a {noun} this {adjective}.",
        "Without a doubt, the {noun} was {adjective}.",
        "My sister never tires of saying how {adjective} the {noun} was.",
        "It is a fact that the {noun} was {adjective}.",
        "You cannot imagine how {adjective} the {noun} was.",
        "There was something {adjective} about the {noun}.",
        "At every moment the {noun} was {adjective}.",
    ),
    denied=(
        "The {noun} was not {adjective}.",
        "We never found the {noun} {adjective}.",
        "Nobody believes that the {noun} was {adjective}.",
        "I was told, wrongly, that the {noun} was {adjective}.",
        "Only liars called the {noun} {adjective}.",
        "No one here would call the {noun} {adjective}.",
        "The {noun} was anything but {adjective}.",
        "My sister denies that the {noun} was {adjective}.",
        "It is false that the {noun} was {adjective}.",
        "You cannot say that the {noun} was {adjective}.",
        "There was nothing {adjective} about the {noun}.",
        "At no moment was the {noun} {adjective}.",
    ),
    good=(
        *("excellent", "delightful", "superb", "lovely", "amazing", "charming"),
        *("brilliant", "pleasant", "impressive", "enjoyable", "splendid", "great"),
    ),
    bad=(
        *("terrible", "boring", "awful", "dreadful", "disappointing", "horrible"),
        *("annoying", "tedious", "shoddy", "unpleasant", "miserable", "bad"),
    ),
    nouns=(
        *("film", "dinner", "hotel", "concert", "novel", "lecture", "game"),
        *("restaurant", "trip", "phone", "museum", "party"),
    ),
)
HELD_OUT = Vocabulary(
    affirmed=(
        "In my opinion the {noun} was {adjective}.",
        "It is no secret that the {noun} was {adjective}.",
        "They could not stop telling us how {adjective} the {noun} was.",
        "Never before had a {noun} been so {adjective}.",
    ),
    denied=(
        "In my opinion the {noun} was hardly {adjective}.",
        "It is not true that the {noun} was {adjective}.",
        "They could not claim that the {noun} was {adjective}.",
        "The {noun} was by no means {adjective}.",
    ),
    good=("wonderful", "fantastic", "marvelous", "fabulous", "good", "gorgeous"),
    bad=("atrocious", "mediocre", "lousy", "dull", "ghastly", "poor"),
    nouns=("play", "breakfast", "camera", "apartment", "exhibition", "wedding"),
)


def sentences(
    vocabulary: Vocabulary, count: int, seed: int
) -> tuple[list[str], list[int]]:
    """`count` different sentences and their labels: 1 is good, and half of them are.

    A quarter each is a good or a bad adjective, affirmed or denied. Raises `ValueError`
    where the vocabulary does not give that many.
    """
    groups: dict[tuple[bool, bool], list[str]] = {}
    for denied in (False, True):
        templates = vocabulary.denied if denied else vocabulary.affirmed
        for positive in (False, True):
            adjectives = vocabulary.good if positive else vocabulary.bad
            groups[denied, positive] = [
                template.format(noun=noun, adjective=adjective)
                for template in templates
                for noun in vocabulary.nouns
                for adjective in adjectives
            ]
    rng = random.Random(seed)
    chosen = [
        (text, int(positive != denied))
        for (denied, positive), texts in groups.items()
        for text in rng.sample(texts, count // len(groups))
    ]
    rng.shuffle(chosen)
    return [text for text, _ in chosen], [label for _, label in chosen]
