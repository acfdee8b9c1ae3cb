"""Made-up vocabularies of any size, and the files of a FunASR model directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
import yaml


def asr_tokens(n_tokens: int) -> list[str]:
    """A vocabulary laid out as Paraformer's.

    It holds special tokens, characters (7 in 8), and foreign words and parts of words (`@@`).
    """
    n_foreign = n_tokens // 8
    words = list(islice(_pseudo_words(), n_foreign - 10))
    foreign = [word + "@@" if i % 5 < 2 else word for i, word in enumerate(words)]
    foreign += ["a", "b", "c", "1", "2", "3", "0@@", "&", ".", "'s"]
    n_chinese = n_tokens - n_foreign - 4
    return ["<blank>", "<s>", "</s>", *_characters(n_chinese), *foreign, "<unk>"]


def punctuation_tokens(n_tokens: int) -> list[str]:
    """A vocabulary laid out as CT-Transformer's: special tokens, characters, words."""
    characters = _characters(min(n_tokens * 3 // 4, 20_902))
    words = islice(_pseudo_words(), n_tokens - len(characters) - 4)
    return ["<blank>", "<s>", "</s>", *characters, *words, "<unk>"]


def _characters(count: int) -> list[str]:
    return [chr(0x4E00 + i) for i in range(count)]


def _pseudo_words() -> Iterable[str]:
    syllables = [c + v for c in "bdfghklmnprstvz" for v in "aeiou"]
    for n_syllables in range(1, 5):
        yield from ("".join(parts) for parts in product(syllables, repeat=n_syllables))


def read_token_file(path: Path) -> list[str]:
    """The tokens of a file: a JSON list, or lines that begin with a token."""
    if path.suffix == ".json":
        return list(json.loads(path.read_text("utf-8")))
    return [line.split(" ")[0] for line in path.read_text("utf-8").split("\n") if line]


def write_directory(
    model_dir: Path,
    config: Mapping[str, Any],
    model: torch.nn.Module,
    tokens: Sequence[str] | None,
    cmvn: Path | tuple[list[float], list[float]] | None,
    seg_dict: Mapping[str, str] | None = None,
    user_dict: Sequence[str] = (),
) -> Path:
    """Writes the files of a FunASR model directory and the configuration.json that lists them.

    `cmvn` is a file or a pair of lists (shift, scale); `user_dict` are lines for jieba.
    """
    model_dir.mkdir(parents=True, exist_ok=True)
    metas: dict[str, Any] = {"init_param": "model.pt", "config": "config.yaml"}
    torch.save(model.state_dict(), model_dir / "model.pt")
    text = yaml.safe_dump(dict(config), allow_unicode=True, sort_keys=False)
    (model_dir / "config.yaml").write_text(text, "utf-8")
    if tokens:
        (model_dir / "tokens.json").write_text(json.dumps(tokens, ensure_ascii=False), "utf-8")
        metas["tokenizer_conf"] = {"token_list": "tokens.json"}
    if seg_dict:
        lines = "".join(f"{word} {spelling}\n" for word, spelling in seg_dict.items())
        (model_dir / "seg_dict").write_text(lines, "utf-8")
        metas["tokenizer_conf"]["seg_dict_file"] = "seg_dict"
    if user_dict:
        (model_dir / "jieba_usr_dict").write_text("\n".join(user_dict) + "\n", "utf-8")
        metas["jieba_usr_dict"] = "jieba_usr_dict"
    if isinstance(cmvn, Path):
        shutil.copy(cmvn, model_dir / "am.mvn")
    elif cmvn:
        (model_dir / "am.mvn").write_text(cmvn_text(*cmvn), "utf-8")
    if cmvn:
        metas["frontend_conf"] = {"cmvn_file": "am.mvn"}
    about = {"framework": "pytorch", "model": {"type": "funasr"}, "file_path_metas": metas}
    (model_dir / "configuration.json").write_text(json.dumps(about, indent=2), "utf-8")
    return model_dir


def cmvn_text(shift: list[float], scale: list[float]) -> str:
    """The text of am.mvn in Kaldi's nnet notation, with line breaks where FunASR expects them."""
    n = len(shift)
    rows = [" ".join(f"{value:.6g}" for value in row) for row in (shift, scale)]
    return (
        f"<Nnet> \n<Splice> {n} {n}\n[ 0 ]\n<AddShift> {n} {n} \n<LearnRateCoef> 0 [ {rows[0]} ]\n"
        f"<Rescale> {n} {n} \n<LearnRateCoef> 0 [ {rows[1]} ]\n</Nnet> \n"
    )
