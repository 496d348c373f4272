"""What ProcTHOR's asset types are called here, and which of our shapes stands in for their meshes.

ProcTHOR names types in camel case ("FloorLamp"). A type that is not listed is called by its words in lower case.
"""

import re
from typing import Final

LABELS: Final[dict[str, str]] = {
    "ArmChair": "armchair",
    "AlarmClock": "clock",
    "BaseballBat": "baseball bat",
    "BasketBall": "basketball",
    "CD": "cd",
    "CellPhone": "phone",
    "CounterTop": "countertop",
    "Cup": "cup",
    "DeskLamp": "table lamp",
    "DiningTable": "table",
    "DogBed": "dog bed",
    "Footstool": "stool",
    "Fridge": "fridge",
    "GarbageBag": "garbage bag",
    "GarbageCan": "garbage can",
    "HousePlant": "plant",
    "KeyChain": "keys",
    "Painting": "picture",
    "ShelvingUnit": "bookshelf",
    "SideTable": "side table",
    "TVStand": "tv stand",
    "TableTopDecor": "ornament",
    "Television": "tv",
    "ToiletPaper": "toilet paper",
    "WineBottle": "wine bottle",
}
"""Asset type -> label, where it is not just the type's words in lower case."""

SHAPES: Final[dict[str, str]] = {
    "basketball": "ball",
    "bread": "pillow",
    "candle": "can",
    "coffee machine": "stove",
    "cup": "mug",
    "dog bed": "tray",
    "egg": "ball",
    "garbage bag": "ball",
    "garbage can": "basket",
    "house plant": "plant",
    "kettle": "bottle",
    "laundry hamper": "basket",
    "lettuce": "ball",
    "newspaper": "book",
    "ottoman": "stool",
    "pan": "bowl",
    "paper towel roll": "can",
    "pepper shaker": "bottle",
    "plate": "bowl",
    "pot": "basket",
    "potato": "ball",
    "safe": "nightstand",
    "salt shaker": "bottle",
    "side table": "nightstand",
    "soap bottle": "bottle",
    "spray bottle": "bottle",
    "statue": "vase",
    "toilet paper": "can",
    "tomato": "apple",
    "washing machine": "stove",
    "clothes dryer": "stove",
    "microwave": "stove",
    "watering can": "bottle",
    "wine bottle": "bottle",
    "dumbbell": "can",
}
"""Label -> shape of scene/furniture, where they differ; a label that has no shape of its own becomes a plain block."""

COLORS: Final[dict[str, tuple[str, ...]]] = {
    "bread": ("brown",),
    "egg": ("white", "brown"),
    "lettuce": ("green",),
    "newspaper": ("white", "gray"),
    "potato": ("brown", "yellow"),
    "tomato": ("red",),
    "toilet paper": ("white",),
    "paper towel roll": ("white",),
    "washing machine": ("white", "gray"),
    "clothes dryer": ("white", "gray"),
    "microwave": ("white", "gray", "black"),
}
"""Classes that do not come in every colour, beside those of scene/datasets/furnishing.py."""

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def label_of(asset_type: str) -> str:
    """The label of an asset type: "FloorLamp" -> "floor lamp"."""
    return LABELS.get(asset_type) or " ".join(word.lower() for word in _WORD.findall(asset_type))
