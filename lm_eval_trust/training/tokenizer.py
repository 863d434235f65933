"""A tokenizer made from a corpus: one token a frequent word, one token a byte for all else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIALS = ("<pad>", "</s>")
WORD = r" ?[^\s.?,!]+|[.?,!]|\s"


def build_tokenizer(texts: Iterable[str], *, size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose vocabulary is the bytes and the corpus's most frequent words.

    A word in another spelling, such as one with flipped letter case, falls back to its bytes, so
    that nothing is out of vocabulary and a perturbation stays visible. Ties in frequency are
    broken by spelling; the same texts give the same tokenizer.

    Args:
        texts: The corpus.
        size: Number of tokens at most, special tokens and the 256 bytes included.
        max_length: Longest input of the model, in tokens.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    base = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = sorted((word for word in counts if len(word) > 1), key=lambda w: (-counts[w], w))
    vocabulary = {token: i for i, token in enumerate([*base, *words[: max(0, size - len(base))]])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="</s>",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
