"""Local judges on random tiny models: batches, truncation, labels, devices, memory."""

from __future__ import annotations

import importlib.util
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.models import build_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from lm_eval_trust.core.errors import ExternalError, InputError
from lm_eval_trust.judges.interface import Answer
from lm_eval_trust.judges.local import LocalEngine, LocalModel, choose_device
from lm_eval_trust.judges.local_judges import (
    CausalEngine,
    ClassifierEngine,
    LocalToxicityJudge,
    LocalTruthJudge,
    toxic_label,
)
from lm_eval_trust.judges.prompts import Prompt, truth_cue
from lm_eval_trust.judges.settings import JudgeSettings

ANSWERS = [Answer("Q" * (1 + 3 * i), f"answer {i} " * (1 + i % 4), (), ()) for i in range(9)]
TEXTS = ["", "a", "kind to strangers", "a grumble " * 9, "x" * 400, "they are many", "…"]


@pytest.fixture(scope="session")
def llama_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 128 positions whose tokenizer has `` yes`` and `` no``."""
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([" yes", " no"])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Factory of random RoBERTa classifiers of 64 tokens, with settings of their configuration."""

    def build(**settings: object) -> Path:
        folder = tmp_path_factory.mktemp("roberta")
        torch.manual_seed(0)
        config = RobertaConfig(
            vocab_size=259,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=65,
            type_vocab_size=1,
            initializer_range=0.5,
            pad_token_id=0,
            **settings,
        )
        RobertaForSequenceClassification(config).save_pretrained(folder)
        tokenizer = build_tokenizer()
        marks = [("<s>", 1), ("</s>", 2)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A </s>", special_tokens=marks
        )
        tokenizer.save_pretrained(folder)
        return folder

    return build


def truth_engine(folder: Path, **settings: object) -> CausalEngine:
    return CausalEngine(LocalModel.find(str(folder), JudgeSettings(**settings)))  # type: ignore[arg-type]


def toxicity_engine(folder: Path, **settings: object) -> ClassifierEngine:
    return ClassifierEngine(LocalModel.find(str(folder), JudgeSettings(**settings)), toxic_label)  # type: ignore[arg-type]


def scores(engine: LocalEngine, prompts: list[Prompt]) -> list[float]:
    """Probabilities in the order of the prompts, without the cache."""
    found = dict(engine.judge(prompts))
    return [float(found[prompt].score or 0.0) for prompt in prompts]


CUES = [truth_cue(answer) for answer in ANSWERS]
TEXT_PROMPTS = [Prompt(text) for text in TEXTS]


def test_truth_is_the_probability_of_yes_one_prompt_at_a_time(llama_judge: Path) -> None:
    """Against a plain forward pass over each prompt alone, without padding."""
    model = AutoModelForCausalLM.from_pretrained(llama_judge, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(llama_judge)
    expected = []
    for cue in CUES:
        tokens = tokenizer(cue.text, return_tensors="pt")["input_ids"][:, -128:]
        with torch.no_grad():
            chances = model(tokens).logits[0, -1].softmax(-1)
        expected.append(float(chances[tokenizer.convert_tokens_to_ids(" yes")]))
    found = scores(truth_engine(llama_judge, batch_size=4), CUES)
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 64])
def test_truth_does_not_depend_on_the_batch(llama_judge: Path, size: int) -> None:
    whole = scores(truth_engine(llama_judge, batch_size=9), CUES)
    assert scores(truth_engine(llama_judge, batch_size=size), CUES) == pytest.approx(
        whole, abs=1e-6
    )


@pytest.mark.slow
def test_too_long_a_prompt_loses_its_beginning_never_its_cue(llama_judge: Path) -> None:
    """The same last 128 tokens give the same verdict, whatever came before them."""
    end = "ends alike. " * 12
    one, other = (Prompt(before * 300 + end + "\nTrue:") for before in "ab")
    info = Prompt("a" * 300 + end + "\nHelpful:")
    found = scores(truth_engine(llama_judge), [one, other, info])
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert abs(found[0] - found[2]) > 1e-4


@pytest.mark.slow
def test_a_tokenizer_without_yes_is_refused(tiny_llama: Callable[..., Path]) -> None:
    judge = LocalTruthJudge(str(tiny_llama()), JudgeSettings())
    with pytest.raises(InputError, match="No token of this judge's tokenizer reads 'yes'"):
        judge.truth(ANSWERS)


@pytest.mark.slow
def test_two_models_judge_each_its_own(llama_judge: Path, tmp_path: Path) -> None:
    other = tmp_path / "info"
    shutil.copytree(llama_judge, other)
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight.neg_()
    model.save_pretrained(other)
    pair = LocalTruthJudge(f"{llama_judge},{other}", JudgeSettings())
    alone = LocalTruthJudge(str(other), JudgeSettings())
    assert pair.info(ANSWERS) == alone.info(ANSWERS)
    assert pair.truth(ANSWERS) != alone.truth(ANSWERS)
    assert len({pair.version, alone.version}) == 2


def test_another_weight_is_another_judge(roberta: Callable[..., Path]) -> None:
    folder = roberta()
    before = LocalToxicityJudge(str(folder), JudgeSettings()).version
    model = RobertaForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.out_proj.bias[0] += 1
    model.save_pretrained(folder)
    assert LocalToxicityJudge(str(folder), JudgeSettings()).version != before


def test_toxicity_is_the_softmax_of_label_one(roberta: Callable[..., Path]) -> None:
    folder = roberta()
    model = RobertaForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = []
    for text in TEXTS:
        tokens = tokenizer(text)["input_ids"]
        shown = torch.tensor([tokens if len(tokens) <= 64 else [*tokens[:63], tokens[-1]]])
        with torch.no_grad():
            expected.append(float(model(shown).logits.softmax(-1)[0, 1]))
    found = scores(toxicity_engine(folder, batch_size=3), TEXT_PROMPTS)
    assert found == pytest.approx(expected, abs=1e-6)
    assert min(expected) < 0.5 < max(expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 64])
def test_toxicity_does_not_depend_on_the_batch(roberta: Callable[..., Path], size: int) -> None:
    folder = roberta()
    whole = scores(toxicity_engine(folder, batch_size=7), TEXT_PROMPTS)
    found = scores(toxicity_engine(folder, batch_size=size), TEXT_PROMPTS)
    assert found == pytest.approx(whole, abs=1e-6)


@pytest.mark.slow
def test_labels_are_chosen_by_the_models_own_names(roberta: Callable[..., Path]) -> None:
    unnamed = scores(toxicity_engine(roberta()), TEXT_PROMPTS)
    named = toxicity_engine(roberta(id2label={0: "HATE", 1: "NOT-HATE"}))
    assert scores(named, TEXT_PROMPTS) == pytest.approx([1 - p for p in unnamed], abs=1e-6)


@pytest.mark.slow
def test_labels_that_do_not_exclude_each_other_have_their_own_probability(
    roberta: Callable[..., Path],
) -> None:
    names = {0: "toxic", 1: "obscene", 2: "threat"}
    folder = roberta(id2label=names, problem_type="multi_label_classification")
    model = RobertaForSequenceClassification.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)("a grumble", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = float(model(tokens).logits.sigmoid()[0, 0])
    assert scores(toxicity_engine(folder), [Prompt("a grumble")]) == [pytest.approx(expected)]


@pytest.mark.parametrize(
    ("labels", "asked", "toxic"),
    [
        ({0: "LABEL_0", 1: "LABEL_1"}, "", 1),
        ({0: "LABEL_0", 1: "LABEL_1"}, "0", 0),
        ({0: "nothate", 1: "hate"}, "", 1),
        ({0: "Hate_Speech", 1: "neutral"}, "", 0),
        ({0: "positive", 1: "negative"}, "Negative", 1),
        ({0: "score"}, "", 0),
    ],
)
def test_the_toxic_label(labels: dict[int, str], asked: str, toxic: int) -> None:
    assert toxic_label(labels, JudgeSettings(toxic_label=asked)) == toxic


@pytest.mark.parametrize(
    ("labels", "asked"),
    [({0: "positive", 1: "negative"}, ""), ({0: "hate", 1: "offensive"}, ""), ({0: "a"}, "b")],
)
def test_a_toxic_label_that_is_not_clear_is_asked_for(labels: dict[int, str], asked: str) -> None:
    with pytest.raises(InputError, match="judge_toxic_label"):
        toxic_label(labels, JudgeSettings(toxic_label=asked))


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(InputError, match="judge_device='nowhere' is not a device"):
        choose_device("nowhere", 0)
    assert choose_device("cpu", 0) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    assert choose_device("", 1 << 40) == "cpu"
    with pytest.raises(InputError, match="judge_device='cuda' is not a device"):
        choose_device("cuda", 0)


def test_the_gpu_with_most_room_is_taken_and_none_where_none_has_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = {0: 10_000, 1: 30_000}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 80_000))
    assert choose_device("", 20_000) == "cuda:1"
    assert choose_device("", 29_000) == "cpu"
    assert "lm-eval-trust judge" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_judge_on_a_gpu_agrees_and_leaves_no_memory(llama_judge: Path) -> None:
    here = scores(truth_engine(llama_judge, device="cpu"), CUES)
    before = torch.cuda.memory_allocated()
    there = scores(truth_engine(llama_judge, device="cuda", dtype="float32"), CUES)
    assert there == pytest.approx(here, abs=1e-4)
    assert torch.cuda.memory_allocated() == before


@pytest.mark.slow
def test_the_model_is_gone_when_the_verdicts_are_there(
    llama_judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[object]] = []
    load = LocalModel.load

    def remembered(self: LocalModel, kind: object) -> object:
        model = load(self, kind)
        held.append(weakref.ref(model))
        return model

    monkeypatch.setattr(LocalModel, "load", remembered)
    LocalTruthJudge(str(llama_judge), JudgeSettings()).truth(ANSWERS)
    assert [reference() for reference in held] == [None]


@pytest.mark.slow
def test_a_second_run_loads_nothing(llama_judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = LocalTruthJudge(str(llama_judge), JudgeSettings()).truth(ANSWERS)

    def refuse(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(LocalModel, "load", refuse)
    assert LocalTruthJudge(str(llama_judge), JudgeSettings()).truth(ANSWERS) == first


@pytest.mark.slow
def test_a_model_that_is_not_a_number_gives_no_verdict(llama_judge: Path, tmp_path: Path) -> None:
    """A fault that the weights do not show: they are finite, and overflow in the forward pass."""
    broken = shutil.copytree(llama_judge, tmp_path / "broken")
    model = AutoModelForCausalLM.from_pretrained(broken)
    with torch.no_grad():
        model.model.norm.weight.fill_(3e38)
    model.save_pretrained(broken)
    with pytest.raises(ExternalError, match=r"None of the 9 replies .* 'a probability of nan'"):
        LocalTruthJudge(str(broken), JudgeSettings(device="cpu")).truth(ANSWERS)


@pytest.mark.slow
def test_quantization_says_what_it_needs(roberta: Callable[..., Path]) -> None:
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    judge = LocalToxicityJudge(str(roberta()), JudgeSettings(quantization="8bit"))
    with pytest.raises(InputError, match="pip install bitsandbytes"):
        judge.toxic(["a text"])


def test_a_folder_of_another_kind_of_model_is_refused(tiny_llama: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no model folder"):
        LocalTruthJudge("./nowhere", JudgeSettings())
