"""What the simulated shop sells, and to whom: names, texts and prices drawn from a random generator, no more."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from random import Random

CENT = Decimal("0.01")

FIRST_NAMES = ("Ada", "Bram", "Chiara", "Dilek", "Émile", "Freya", "Goran", "Hana", "Ines", "Jun", "Kofi", "Łucja",
               "Maite", "Nils", "Olu", "Priya", "Rúna", "Søren", "Tamar", "Zoë")  # fmt: skip
LAST_NAMES = ("Abe", "Bauer", "Côté", "D'Angelo", "Eriksen", "Ferreira", "García", "Huang", "Ivanova", "Jansen", "Kaya",
              "Lindqvist", "Müller", "Nowak", "O'Brien", "Petrov", "Rossi", "Šimić", "Tanaka", "Yılmaz")  # fmt: skip
STREETS = (
    "Canal Street",
    "Hauptstraße",
    "Rue du Port",
    "Via Roma",
    "Mill Lane",
    "Kungsgatan",
    "Calle Mayor",
    "Elm Road",
)

REGIONS = {
    "EU-WEST": ("EUR", ("Köln", "Lyon", "Utrecht", "Gent")),
    "EU-NORTH": ("EUR", ("Malmö", "Turku", "Aarhus")),
    "EU-SOUTH": ("EUR", ("Porto", "Sevilla", "Bari")),
    "UK": ("GBP", ("Leeds", "Cardiff", "Dundee")),
    "US-EAST": ("USD", ("Boston", "Albany", "Durham")),
    "US-WEST": ("USD", ("Fresno", "Tacoma", "Reno")),
}
"""Sales region to the currency of its orders and the towns in it."""

ADJECTIVES = ("Quiet", "Folding", "Heavy", "Nordic", "Copper", "Little", "Wide", "Second", "Plain", "Bright")
NOUNS = {
    "kitchen": ("Kettle", "Pan", "Ladle", "Grater"),
    "office": ("Lamp", "Chair", "Shelf", "Notebook"),
    "garden": ("Spade", "Hose", "Bench", "Planter"),
    "toys": ("Puzzle", "Kite", "Train", "Blocks"),
    "outdoor": ("Tent", "Flask", "Rope", "Compass"),
}
"""Category to what is sold in it."""

SENTENCES = (
    "Made of one piece, so that nothing can come loose.",
    "The surface is oiled and may be oiled again.",
    "Ships flat; two people put it together in ten minutes.",
    "Spare parts stay available for ten years.",
    "Not for use above 60 °C.",
    "“Best in its class”, wrote the testers, and we agree.",
    "Packed in paper, without plastic.",
    "Wipe clean with a damp cloth, never with solvents.",
)
DESCRIPTION_BYTES = 2600
"""Beyond the two kilobytes from which on PostgreSQL stores a value out of line."""


@dataclass(frozen=True)
class Residence:
    """Where a customer lives. `address` ends with the town, behind the last comma."""

    address: str
    region: str


def residence(random: Random) -> Residence:
    region = random.choice(tuple(REGIONS))
    town = random.choice(REGIONS[region][1])
    street = random.choice(STREETS)
    return Residence(f"{street} {random.randrange(1, 200)}, {random.randrange(10_000, 99_999)}, {town}", region)


def full_name(random: Random) -> str:
    return f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}"


def email(random: Random, name: str, customer_id: int) -> str:
    """An address that no other customer has."""
    user = name.lower().replace(" ", ".").replace("'", "")
    return f"{user}.{customer_id}@{random.choice(('mail', 'post', 'inbox'))}.example"


def phone(random: Random) -> str | None:
    """One customer in ten gives none."""
    return None if random.random() < 0.1 else f"+{random.randrange(1, 99)} {random.randrange(10**8, 10**9)}"


def currency(region: str) -> str:
    return REGIONS[region][0]


def category(random: Random) -> str:
    return random.choice(tuple(NOUNS))


def product_name(random: Random, product_category: str) -> str:
    return f"{random.choice(ADJECTIVES)} {random.choice(NOUNS[product_category])}"


def description(random: Random) -> str:
    """A long text, 2.6 to 6 kB of UTF-8."""
    wanted = random.randrange(DESCRIPTION_BYTES, 6000)
    parts: list[str] = []
    size = 0
    while size < wanted:
        sentence = random.choice(SENTENCES)
        parts.append(sentence)
        size += len(sentence.encode()) + 1
    return " ".join(parts)


def price(random: Random) -> Decimal:
    """A list price between 1.49 and 499.99, cheap ones more often."""
    return (Decimal(149 + int(random.random() ** 3 * 49_850)) * CENT).quantize(CENT)
