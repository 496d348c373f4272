"""A few answers with their right ones, and what the COCO caption code says of them (pycocoevalcap 1.2, its jars)."""

SAID = ["brown cabinet", "2 chairs", "to the right of the door", "it's on the table", "yes", "a red round stool"] + [
    "in front of the tv",
    "black",
    "left of the sofa and the lamp",
    "no",
]
RIGHT = (
    [["brown wooden cabinet", "cabinet"], ["2"], ["right side of the door", "to the right of the door"]]
    + [["on the coffee table", "it is on the table"], ["no"], ["red stool", "a round red stool"]]
    + [["in front of the television", "tv stand"], ["black"], ["left of the couch", "to the left of the sofa"], ["no"]]
)
BLEU = (0.8529411764455018, 0.679713030542103, 0.625386151193419, 0.5650129272828492)
ROUGE_L = 0.785396015412887
CIDER = 2.772963562715387
