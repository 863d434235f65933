"""Every kind of request gives what the independent formulation gives, however it is batched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.conformance import (
    PROMPTS,
    Case,
    generation_requests,
    rolling_requests,
    scoring_requests,
)
from support.reference import Reference

from lm_eval_trust.model_wrappers.steerable import SteerableLM

References = Callable[[Case], Reference]

#: float32 against float64 over sums of up to a hundred log-probabilities.
CLOSE = {"abs": 2e-3, "rel": 1e-4}

CONTINUATIONS = (" The answer is no.", " yes", "b", " = 36", "three", " it fell.", ".", " Why?")
PAIRS = tuple(zip(PROMPTS, CONTINUATIONS, strict=True))


def scores(lm: SteerableLM, pairs: tuple[tuple[str, str], ...]) -> list[tuple[float, bool]]:
    return lm.loglikelihood(scoring_requests(pairs), disable_tqdm=True)


def test_scores_equal_the_reference(case: Case, reference: References) -> None:
    lm, oracle = case.lm(), reference(case)
    for pair, (value, greedy) in zip(PAIRS, scores(lm, PAIRS), strict=True):
        expected, expected_greedy = oracle.score(*lm._encode_pair(*pair), case.plan)
        assert value == pytest.approx(expected, **CLOSE)
        assert greedy == expected_greedy


def test_scores_do_not_depend_on_batch_size(case: Case) -> None:
    together = scores(case.lm(batch_size=8), PAIRS)
    alone = scores(case.lm(batch_size=1), PAIRS)
    for (value, greedy), (expected, expected_greedy) in zip(together, alone, strict=True):
        assert value == pytest.approx(expected, abs=1e-3)
        assert greedy == expected_greedy


def test_equal_tokens_with_different_prompts_are_told_apart(
    case: Case, reference: References
) -> None:
    # The harness scores one-token continuations of equal tokens in one forward pass.
    pairs = (("Who rules the", " city"), ("Who rules", " the city"), ("Who", " rules the city"))
    lm, oracle = case.lm(), reference(case)
    for pair, (value, _) in zip(pairs, scores(lm, pairs), strict=True):
        expected, _ = oracle.score(*lm._encode_pair(*pair), case.plan)
        assert value == pytest.approx(expected, **CLOSE)


def test_rolling_scores_equal_the_reference(case: Case, reference: References) -> None:
    lm, oracle = case.lm(batch_size=4), reference(case)
    texts = PROMPTS[:4]
    found = lm.loglikelihood_rolling(rolling_requests(texts), disable_tqdm=True)
    for text, value in zip(texts, found, strict=True):
        expected, _ = oracle.score([lm.prefix_token_id], lm.tok_encode(text), case.plan)
        assert value == pytest.approx(expected, **CLOSE)


def test_rolling_windows_after_the_first_have_no_prompt(
    small_case: Case, reference: References
) -> None:
    case = small_case
    lm, oracle = case.lm(max_length=16, batch_size=2), reference(case)
    text = PROMPTS[5]
    (value,) = lm.loglikelihood_rolling(rolling_requests([text]), disable_tqdm=True)
    tokens, expected = lm.tok_encode(text), 0.0
    for start in range(0, len(tokens), 16):
        predicted = tokens[start : start + 16]
        if start == 0:
            expected += oracle.score([lm.prefix_token_id], predicted, case.plan)[0]
            continue
        # Full windows: the last one reaches back so that 16 tokens are fed.
        fed = tokens[max(0, start + len(predicted) - 16 - 1) : start + len(predicted)]
        logits = oracle.logits(fed[:-1], case.plan, -1).log_softmax(-1)
        wanted = torch.tensor(predicted)[:, None]
        expected += logits[-len(predicted) :].gather(1, wanted).sum().item()
    assert value == pytest.approx(expected, **CLOSE)


def test_greedy_generation_equals_the_reference(case: Case, reference: References) -> None:
    lm, oracle = case.lm(), reference(case)
    prompts = PROMPTS if not case.large else PROMPTS[:2]
    requests = generation_requests(prompts, max_gen_toks=case.new_tokens)
    for prompt, text in zip(prompts, lm.generate_until(requests, disable_tqdm=True), strict=True):
        tokens = oracle.greedy(lm.tok_encode(prompt), case.plan, case.new_tokens)
        if lm.eot_token_id in tokens:
            tokens = tokens[: tokens.index(lm.eot_token_id)]
        assert text == lm.tok_decode(tokens)


def test_generation_does_not_depend_on_batch_size(case: Case) -> None:
    requests = generation_requests(PROMPTS, max_gen_toks=case.new_tokens)
    together = case.lm(batch_size=8).generate_until(requests, disable_tqdm=True)
    alone = case.lm(batch_size=1).generate_until(requests, disable_tqdm=True)
    assert together == alone


def generate(lm: SteerableLM, prompts: tuple[str, ...], new_tokens: int, **settings: object):
    """Tokens and the logits that each was chosen from, left-padded as the harness does it."""
    context, mask = lm.tok_batch_encode(list(prompts))
    output = lm._model_generate(
        context,
        context.shape[1] + new_tokens,
        [],
        attention_mask=mask,
        return_dict_in_generate=True,
        output_logits=True,
        output_scores=True,
        **settings,
    )
    return [row[keep == 1].tolist() for row, keep in zip(context, mask, strict=True)], output


def test_a_generated_continuation_scores_what_generating_it_gave(case: Case) -> None:
    lm = case.lm()
    prompts, output = generate(lm, PROMPTS, case.new_tokens)
    width = output.sequences.shape[1] - len(output.logits)
    chosen = torch.stack(output.logits, dim=1).log_softmax(-1)
    for row, prompt in enumerate(prompts):
        continuation = output.sequences[row, width:].tolist()
        if lm.eot_token_id in continuation:
            continuation = continuation[: continuation.index(lm.eot_token_id) + 1]
        seen = sum(chosen[row, i, token].item() for i, token in enumerate(continuation))
        ((scored, greedy),) = lm._loglikelihood_tokens(
            [(("", ""), prompt, continuation)], disable_tqdm=True
        )
        assert scored == pytest.approx(seen, abs=1e-3)
        assert greedy


def test_sampling_draws_from_the_reference_distribution(case: Case, reference: References) -> None:
    lm, oracle = case.lm(), reference(case)
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    torch.manual_seed(5)
    prompts, first = generate(lm, PROMPTS[:2], case.new_tokens, **settings)
    torch.manual_seed(5)
    _, second = generate(lm, PROMPTS[:2], case.new_tokens, **settings)
    assert torch.equal(first.sequences, second.sequences)
    width = first.sequences.shape[1] - len(first.logits)
    for row, prompt in enumerate(prompts):
        drawn = first.sequences[row, width:].tolist()
        for step, logits in enumerate(first.logits):
            expected = oracle.logits(prompt + drawn[:step], case.plan, len(prompt) - 1)[-1]
            assert torch.allclose(logits[row].double(), expected, atol=5e-3, rtol=1e-3)
            if drawn[step] == lm.eot_token_id:
                break


def test_beams_and_repeated_samples_keep_their_prompts(case: Case, reference: References) -> None:
    lm, oracle = case.lm(), reference(case)
    settings = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0}
    prompts, output = generate(lm, PROMPTS[:2], case.new_tokens, **settings)
    width = output.sequences.shape[1] - case.new_tokens
    for row, sequence in enumerate(output.sequences[:, width:].tolist()):
        prompt = prompts[row // 2]
        if lm.eot_token_id in sequence:
            sequence = sequence[: sequence.index(lm.eot_token_id) + 1]
        expected, _ = oracle.score(prompt, sequence, case.plan)
        assert output.sequences_scores[row].item() == pytest.approx(expected, **CLOSE)
