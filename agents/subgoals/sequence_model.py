"""A small model that reads a goal sentence and writes its steps: GRU encoder, GRU decoder with attention.

The decoder's next token is scored from its state and what it attends to, and from the words attended to by themselves:
the lexical term of Nguyen and Chiang (arXiv:1710.01329), which helps where names are rare. What training never has may
not be written: see step_grammar.py.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from agents.subgoals.step_grammar import END, GOAL, PAD, Grammar, Position
from agents.subgoals.step_sequences import Steps
from agents.subgoals.step_words import StepWords
from core.checkpoint import load_weights
from core.errors import InputError, existing_file
from core.files import atomic_write, read_json
from vl.tokenizer import load_tokenizer, save_tokenizer

CONFIG: Final = "decomposer.json"
WEIGHTS: Final = "model.safetensors"
MOST_TOKENS: Final = 96
"""Of a plan: start, END and at most MOST_STEPS steps of up to three."""


@dataclass(frozen=True)
class SequenceConfig:
    """Sizes; raises InputError for one that makes no model."""

    words: int  # ids of the words tokenizer
    tokens: int  # of the grammar
    width: int = 128  # of embeddings and of the GRUs
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise InputError(f"width={self.width} should be even and positive: half of it reads each way")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout} should be in [0, 1)")


@dataclass(frozen=True)
class Read:
    """What the encoder makes of B sentences of L words."""

    states: Float[Tensor, "B L D"]
    words: Float[Tensor, "B L D"]  # embeddings
    mask: Bool[Tensor, "B L"]
    start: Float[Tensor, "1 B D"]  # first state of the decoder

    def rows(self, index: Int[Tensor, " M"]) -> "Read":
        return Read(self.states[index], self.words[index], self.mask[index], self.start[:, index])


class SequenceModel(nn.Module):
    """Sentence in, scores of the next token out."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.words = nn.Embedding(config.words, width, padding_idx=0)
        self.tokens = nn.Embedding(config.tokens, width, padding_idx=PAD)
        self.encoder = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(width, width)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.query = nn.Linear(width, width, bias=False)
        self.join = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, config.tokens)
        self.lexical = nn.Linear(width, width)
        self.lexical_head = nn.Linear(width, config.tokens)
        self.drop = nn.Dropout(config.dropout)

    def read(self, ids: Int[Tensor, "B L"], mask: Bool[Tensor, "B L"]) -> Read:
        """Encodes sentences; every one has at least one word."""
        words = self.drop(self.words(ids))
        packed = nn.utils.rnn.pack_padded_sequence(words, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.encoder(packed)[0], batch_first=True, total_length=ids.shape[1]
        )
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return Read(self.drop(states), words, mask, torch.tanh(self.bridge(mean))[None])

    def write(
        self, read: Read, tokens: Int[Tensor, "B S"], state: Float[Tensor, "1 B D"]
    ) -> tuple[Float[Tensor, "B S V"], Float[Tensor, "1 B D"]]:
        """Scores of the token behind each of `tokens`, and the state behind the last."""
        out, state = self.decoder(self.drop(self.tokens(tokens)), state)
        match = self.query(out) @ read.states.transpose(1, 2) / self.config.width**0.5  # (B, S, L)
        weight = match.masked_fill(~read.mask[:, None], -torch.inf).softmax(-1)
        joined = self.drop(torch.tanh(self.join(torch.cat([out, weight @ read.states], -1))))
        seen = torch.tanh(weight @ read.words)
        seen = seen + torch.tanh(self.lexical(seen))
        return self.head(joined) + self.lexical_head(seen), state

    def forward(
        self, ids: Int[Tensor, "B L"], mask: Bool[Tensor, "B L"], tokens: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B S V"]:
        """Scores of the next token at every place of given rows."""
        read = self.read(ids, mask)
        return self.write(read, tokens, read.start)[0]


@dataclass(frozen=True)
class Hypothesis:
    """A row begun."""

    tokens: tuple[int, ...]
    log_prob: float
    at: Position
    done: bool = False


class LearnedSteps:
    """A trained model with its words, its grammar and its phrases: goals in words to rows of steps.

    Args:
        beam: rows kept while writing; 1 takes the likeliest next token each time.
        constrained: whether only what the grammar allows may be written.
    """

    def __init__(
        self,
        model: SequenceModel,
        tokenizer: PreTrainedTokenizerFast,
        grammar: Grammar,
        phrases: StepWords,
        beam: int = 1,
        constrained: bool = True,
    ) -> None:
        if beam < 1:
            raise InputError(f"beam={beam}: at least one row has to be kept")
        self.model, self.tokenizer, self.grammar, self.phrases = model, tokenizer, grammar, phrases
        self.beam, self.constrained = beam, constrained

    @torch.no_grad()
    def plans(self, goals: Sequence[str], batch_size: int = 64) -> list[Steps]:
        """The likeliest plan found for each goal.

        Raises:
            InputError: a goal without a word.
        """
        training = self.model.training
        self.model.eval()
        found = []
        for start in range(0, len(goals), batch_size):
            read = self.model.read(*sentences(self.tokenizer, goals[start : start + batch_size]))
            found += [self.grammar.decode(best.tokens) for best in self._search(read)]
        self.model.train(training)
        return found

    def _search(self, read: Read) -> list[Hypothesis]:
        """Beam search by the mean log-probability of a token; each row ends at END or at MOST_TOKENS."""
        beams = [[Hypothesis((GOAL,), 0.0, Position())] for _ in range(len(read.states))]
        states = [[read.start[:, b]] for b in range(len(beams))]
        for _ in range(MOST_TOKENS):
            open_rows = [(b, k) for b, beam in enumerate(beams) for k, row in enumerate(beam) if not row.done]
            if not open_rows:
                break
            scores, after = self.model.write(
                read.rows(torch.tensor([b for b, _ in open_rows])),
                torch.tensor([[beams[b][k].tokens[-1]] for b, k in open_rows]),
                torch.stack([states[b][k] for b, k in open_rows], 1),
            )
            scores = scores[:, 0]
            if self.constrained:
                allowed = torch.stack([self.grammar.allowed(beams[b][k].at) for b, k in open_rows])
                scores = scores.masked_fill(~allowed, -torch.inf)
            else:
                scores[:, :END] = -torch.inf  # filling and starts are never written
            values, indices = scores.log_softmax(-1).topk(min(self.beam, scores.shape[1]), -1)
            grown: list[list[tuple[Hypothesis, Tensor]]] = [
                [(row, states[b][k]) for k, row in enumerate(beam) if row.done] for b, beam in enumerate(beams)
            ]
            for number, (b, k) in enumerate(open_rows):
                row = beams[b][k]
                for value, token in zip(values[number].tolist(), indices[number].tolist()):
                    if value > -torch.inf:
                        at = self.grammar.after(row.at, token) if self.constrained else row.at
                        new = Hypothesis((*row.tokens, token), row.log_prob + value, at, token == END)
                        grown[b].append((new, after[:, number]))
            for b, candidates in enumerate(grown):
                candidates.sort(key=lambda pair: -mean_log_prob(pair[0]))
                beams[b] = [row for row, _ in candidates[: self.beam]]
                states[b] = [state for _, state in candidates[: self.beam]]
        return [max(beam, key=lambda row: (row.done, mean_log_prob(row))) for beam in beams]

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes weights, words, grammar and phrases into an existing folder."""
        folder = Path(folder)
        save_file({name: value.contiguous() for name, value in self.model.state_dict().items()}, folder / WEIGHTS)
        save_tokenizer(self.tokenizer, folder)
        content = {
            "config": asdict(self.model.config),
            "grammar": self.grammar.to_json(),
            "phrases": self.phrases.to_json(),
        }
        atomic_write(folder / CONFIG, json.dumps(content, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path, beam: int = 1, constrained: bool = True) -> "LearnedSteps":
        """Reads what `save_pretrained` wrote.

        Raises:
            InputError: a file is missing or damaged, or the parts do not belong together.
        """
        folder = Path(folder).expanduser()
        content: Any = read_json(existing_file(folder / CONFIG, "a decomposer's description"), "decomposer")
        weights = existing_file(folder / WEIGHTS, "a decomposer's weights")
        try:
            config, grammar = SequenceConfig(**content["config"]), Grammar(**content["grammar"])
            phrases = StepWords.from_json(content["phrases"])
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder / CONFIG} is no description of a decomposer: {error}") from error
        if config.tokens != len(grammar):
            raise InputError(f"{folder / CONFIG} has {len(grammar)} tokens in its grammar, its model {config.tokens}")
        model = SequenceModel(config)
        try:
            load_weights(model, load_file(weights), str(weights))
        except Exception as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{weights} cannot be read: {error}") from error
        return cls(model.eval(), load_tokenizer(folder), grammar, phrases, beam, constrained)


def mean_log_prob(row: Hypothesis) -> float:
    """Per token written, so that long plans are not punished for being long."""
    return row.log_prob / max(1, len(row.tokens) - 1)


def sentences(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Ids and mask of sentences, cut at the tokenizer's length.

    Raises:
        InputError: one is empty.
    """
    for text in texts:
        if not text.strip():
            raise InputError("an empty goal says nothing; give a sentence")
    batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"].bool()
