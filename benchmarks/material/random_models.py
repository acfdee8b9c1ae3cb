"""Writes FunASR model directories with random weights, which FunASR's `AutoModel` can load.

    python -m benchmarks.material.random_models OUT --size tiny    under 2 MB in all, for tests
    python -m benchmarks.material.random_models OUT --size large   the true geometry, for speed

The models recognise nothing. Some weights are set by hand, so that a run does as much work as with
trained weights:

- the CIF head emits about 4.5 tokens a second;
- the VAD is an exact energy detector, wired through the FSMN;
- the punctuation head sets marks as often as they stand in text.

The geometries are those of `model/*/template.yaml` in modelscope/FunASR and of the published
checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.material.model_files import (
    asr_tokens,
    punctuation_tokens,
    read_token_file,
    write_directory,
)
from deployments.engines.checkpoint import build

TOKENS_PER_S = 4.5  # Mandarin at an ordinary pace
ENCODER_FRAME_S = 0.06
ASR_DIM, VAD_DIM = 7 * 80, 5 * 80  # stacked log-mel frames
PUNCTUATION = ["<unk>", "_", "，", "。", "？", "、"]
PUNCTUATION_PRIOR = [-9.0, 2.6, 0.4, -0.1, -1.2, -1.2]  # about a comma in 15, a stop in 50 words
# In mean log-mel. The offset keeps the energy positive, so that it passes the ReLUs.
VAD_THRESHOLD, VAD_SLOPE, VAD_OFFSET = 8.4, 0.5, 20.0


class Size(StrEnum):
    TINY = "tiny"
    LARGE = "large"


class Asr(StrEnum):
    SEACO = "seaco"
    BICIF = "bicif"


class Punc(StrEnum):
    ZH = "zh"  # vocab272727
    CN_EN = "large"  # vocab471067-large


# dim, feed-forward, encoder layers, decoder layers, heads, feed-forward of the hotword decoder
ASR_SHAPES = {Size.LARGE: (512, 2048, 50, 16, 4, 1024), Size.TINY: (32, 64, 2, 2, 2, 32)}
# dim, heads, feed-forward, layers, words in the true vocabulary
PUNC_SHAPES = {
    (Size.LARGE, Punc.ZH): (256, 8, 1024, 4, 272_727),
    (Size.LARGE, Punc.CN_EN): (516, 12, 2048, 12, 471_067),
    (Size.TINY, Punc.ZH): (16, 2, 32, 2, 272_727),
    (Size.TINY, Punc.CN_EN): (24, 3, 48, 3, 471_067),
}
# affine, layers, linear, memory, order, output
VAD_SHAPES = {Size.LARGE: (140, 4, 250, 128, 20, 248), Size.TINY: (8, 2, 8, 8, 5, 4)}
TRUE_ASR_TOKENS, TINY_TOKENS = 8404, 200
NO_HOTWORD = 8377  # the real model's token id for "no hotword here"


def write_paraformer(
    model_dir: Path,
    *,
    kind: Asr = Asr.SEACO,
    size: Size = Size.TINY,
    tokens: Sequence[str] | None = None,
    cmvn_file: Path | None = None,
    seed: int = 0,
) -> Path:
    """Writes a Paraformer's directory.

    `tokens` defaults to 200 (tiny) or 8404 (large) made-up tokens.
    """
    vocabulary = list(tokens or asr_tokens(TRUE_ASR_TOKENS if size is Size.LARGE else TINY_TOKENS))
    no_hotword = NO_HOTWORD if len(vocabulary) > NO_HOTWORD else 5
    config = paraformer_config(kind, size, no_hotword)
    model: Any = seeded_model(config, ASR_DIM, len(vocabulary), seed)
    with torch.no_grad():
        per_frame = TOKENS_PER_S * ENCODER_FRAME_S
        model.predictor.cif_output.weight.mul_(0.05)
        model.predictor.cif_output.bias.fill_(math.log(per_frame / (1 - per_frame)))
        model.predictor.cif_output2.weight.mul_(0.05)
        output = model.decoder.output_layer
        output.weight.mul_(8.0)  # one token scores far above the others, as in a trained model
        output.bias.zero_()
        output.bias[[0, 1, 2, len(vocabulary) - 1]] = -1e4  # special tokens are never emitted
        if kind is Asr.SEACO:
            model.hotword_output_layer.bias[no_hotword] += 1.0
    # The spelling of hotwords in tokens: each character as itself, and one foreign word in parts.
    seg_dict = {token: token for token in vocabulary if len(token) == 1}
    seg_dict["hello"] = "ba@@ bi"
    cmvn = cmvn_file or ([-12.0] * ASR_DIM, [0.15] * ASR_DIM)
    return write_directory(model_dir, config, model, vocabulary, cmvn, seg_dict)


def paraformer_config(kind: Asr, size: Size, no_hotword: int) -> dict[str, Any]:
    """The config.yaml of a SeACo- or BiCif-Paraformer."""
    dim, feed_forward, n_encoder, n_decoder, heads, hotword_ff = ASR_SHAPES[size]
    dropout = dict.fromkeys(
        ("dropout_rate", "positional_dropout_rate", "self_attention_dropout_rate"), 0.1
    ) | {"src_attention_dropout_rate": 0.1}
    config: dict[str, Any] = {
        "model": "SeacoParaformer" if kind is Asr.SEACO else "BiCifParaformer",
        "model_conf": {"ctc_weight": 0.0, "lsm_weight": 0.1, "predictor_bias": 1},
        "encoder": "SANMEncoder",
        "encoder_conf": sanm_encoder(dim, heads, feed_forward, n_encoder),
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": dropout
        | {"attention_heads": heads, "linear_units": feed_forward, "num_blocks": n_decoder}
        | {"att_layer_num": n_decoder, "kernel_size": 11, "sanm_shfit": 0},
        "predictor": "CifPredictorV3",
        "predictor_conf": {"idim": dim, "threshold": 1.0, "l_order": 1, "r_order": 1}
        | {"tail_threshold": 0.45, "smooth_factor2": 0.25, "noise_threshold2": 0.01}
        | {"upsample_times": 3, "use_cif1_cnn": False, "upsample_type": "cnn_blstm"},
        "frontend": "WavFrontend",
        "frontend_conf": frontend(lfr_m=7, lfr_n=6),
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }
    if kind is Asr.SEACO:
        config["model_conf"] |= {"inner_dim": dim, "bias_encoder_type": "lstm"}
        config["model_conf"] |= {"bias_encoder_bid": False, "NO_BIAS": no_hotword}
        config["seaco_decoder"] = "ParaformerSANMDecoder"
        config["seaco_decoder_conf"] = dropout | {
            "attention_heads": heads,
            "linear_units": hotword_ff,
            "num_blocks": 4,
            "kernel_size": 21,
            "sanm_shfit": 0,
            "use_output_layer": False,
            "wo_input_layer": True,
        }
    return config


def write_vad(model_dir: Path, *, size: Size = Size.TINY, seed: int = 0) -> Path:
    """Writes an FSMN-VAD's directory; the model takes audio above VAD_THRESHOLD for speech."""
    affine, n_layers, linear, memory, order, n_out = VAD_SHAPES[size]
    encoder_conf = {"input_dim": VAD_DIM, "input_affine_dim": affine, "fsmn_layers": n_layers}
    encoder_conf |= {"linear_dim": linear, "proj_dim": memory, "lorder": order, "rorder": 0}
    encoder_conf |= {"lstride": 1, "rstride": 0, "output_affine_dim": affine, "output_dim": n_out}
    config = {
        "model": "FsmnVADStreaming",
        "model_conf": {"speech_noise_thres": 0.6, "snr_thres": -100.0, "decibel_thres": -100.0},
        "encoder": "FSMN",
        "encoder_conf": encoder_conf,
        "frontend": "WavFrontendOnline",
        "frontend_conf": frontend(lfr_m=5, lfr_n=1),
    }
    model: Any = seeded_model(config, VAD_DIM, -1, seed)
    with torch.no_grad():
        wire_energy_detector(model.encoder, n_out)
    return write_directory(model_dir, config, model, None, ([0.0] * VAD_DIM, [1.0] * VAD_DIM))


def wire_energy_detector(encoder: Any, n_out: int) -> None:
    """Wires unit 0 to carry the mean log-mel to the output, where it lowers P(silence)."""
    for parameter in encoder.parameters():
        parameter.mul_(0.02)  # leaves a little noise in the other units

    def carry(linear: Any, weights: float | list[float]) -> None:
        weights = weights if isinstance(weights, list) else [weights]
        linear.weight[0].zero_()
        linear.weight[0, : len(weights)] = torch.tensor(weights)
        linear.weight[1:, 0].zero_()
        if linear.bias is not None:
            linear.bias[0] = 0.0

    carry(encoder.in_linear1.linear, [1.0 / VAD_DIM] * VAD_DIM)
    encoder.in_linear1.linear.bias[0] = VAD_OFFSET
    carry(encoder.in_linear2.linear, 1.0)
    for block in encoder.fsmn:
        carry(block.linear.linear, 1.0)
        block.fsmn_block.conv_left.weight[0].zero_()
        carry(block.affine.linear, 1.0)
    carry(encoder.out_linear1.linear, 1.0)
    output = encoder.out_linear2.linear
    output.weight.zero_()
    output.bias.zero_()
    output.weight[0, 0] = -VAD_SLOPE
    output.bias[0] = VAD_SLOPE * (VAD_THRESHOLD + VAD_OFFSET) + math.log(n_out - 1)


def write_punctuation(
    model_dir: Path,
    *,
    variant: Punc = Punc.ZH,
    size: Size = Size.TINY,
    tokens: Sequence[str] | None = None,
    user_dict: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Writes a CT-Transformer's directory.

    `tokens` defaults to 200 (tiny) or the true number (large) of made-up tokens. `user_dict` holds
    lines for jieba: a word, which its frequency and kind may follow. With them the model reads
    dictionary words, and these words replace the last ones of the vocabulary.
    """
    dim, heads, feed_forward, n_layers, n_words = PUNC_SHAPES[size, variant]
    vocabulary = list(tokens or punctuation_tokens(n_words if size is Size.LARGE else TINY_TOKENS))
    new = list(dict.fromkeys(w for line in user_dict if (w := line.split(" ")[0])))
    new = [word for word in new if word not in set(vocabulary)]
    vocabulary = [*vocabulary[: len(vocabulary) - 1 - len(new)], *new, vocabulary[-1]]
    encoder_conf = sanm_encoder(dim, heads, feed_forward, n_layers)
    config = {
        "model": "CTTransformer",
        "model_conf": {"ignore_id": 0, "embed_unit": dim, "att_unit": dim, "dropout_rate": 0.1}
        | {"punc_list": PUNCTUATION, "punc_weight": [1.0] * 6, "sentence_end_id": 3},
        "encoder": "SANMEncoder",
        "encoder_conf": encoder_conf | {"input_size": dim, "padding_idx": 0},
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>"},
    }
    model: Any = seeded_model(config, 0, len(vocabulary), seed)
    with torch.no_grad():
        torch.nn.init.normal_(
            model.decoder.weight,
            std=1.0 / math.sqrt(dim),
            generator=torch.Generator().manual_seed(seed),
        )
        model.decoder.bias.copy_(torch.tensor(PUNCTUATION_PRIOR))
    return write_directory(model_dir, config, model, vocabulary, None, user_dict=user_dict)


def sanm_encoder(dim: int, heads: int, feed_forward: int, n_layers: int) -> dict[str, Any]:
    """The `encoder_conf` of the SANM encoder, which ASR and punctuation models both have."""
    sizes = {"output_size": dim, "attention_heads": heads, "linear_units": feed_forward}
    rates = {"dropout_rate": 0.1, "positional_dropout_rate": 0.1, "attention_dropout_rate": 0.1}
    kind = {"input_layer": "pe", "pos_enc_class": "SinusoidalPositionEncoder"}
    kind |= {"selfattention_layer_type": "sanm"}
    rest = {"num_blocks": n_layers, "normalize_before": True, "kernel_size": 11, "sanm_shfit": 0}
    return {**sizes, **rates, **kind, **rest}


def frontend(*, lfr_m: int, lfr_n: int) -> dict[str, Any]:
    """The `frontend_conf`. Without `dither: 0` FunASR would add noise to the audio."""
    conf = {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10}
    return {**conf, "dither": 0.0, "lfr_m": lfr_m, "lfr_n": lfr_n}


def seeded_model(config: Mapping[str, Any], input_size: int, n_tokens: int, seed: int) -> Any:
    """The module with random weights of the seed. The caller's random generator is not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config, input_size=input_size, vocab_size=n_tokens)


def main(
    out: Annotated[Path, typer.Argument(help="Directory to write asr/, vad/ and punc/ into.")],
    size: Annotated[Size, typer.Option(help="Geometry of the networks.")] = Size.TINY,
    asr: Annotated[Asr, typer.Option(help="Kind of Paraformer.")] = Asr.SEACO,
    punc: Annotated[Punc, typer.Option(help="Kind of CT-Transformer.")] = Punc.ZH,
    true_vocabulary: Annotated[
        bool, typer.Option(help="Give tiny networks vocabularies of the true size.")
    ] = False,
    tokens: Annotated[Path | None, typer.Option(help="Token list of the Paraformer.")] = None,
    cmvn: Annotated[Path | None, typer.Option(help="am.mvn of the Paraformer.")] = None,
    punc_tokens: Annotated[
        Path | None, typer.Option(help="Token list of the CT-Transformer.")
    ] = None,
    user_dict: Annotated[
        Path | None, typer.Option(help="jieba_usr_dict of the CT-Transformer.")
    ] = None,
) -> None:
    """Write model directories with random weights."""
    asr_list = read_token_file(tokens) if tokens else None
    punc_list = read_token_file(punc_tokens) if punc_tokens else None
    if true_vocabulary:
        asr_list = asr_list or asr_tokens(TRUE_ASR_TOKENS)
        punc_list = punc_list or punctuation_tokens(PUNC_SHAPES[size, punc][-1])
    write_paraformer(out / "asr", kind=asr, size=size, tokens=asr_list, cmvn_file=cmvn)
    write_vad(out / "vad", size=size)
    dict_lines = user_dict.read_text("utf-8").splitlines() if user_dict else ()
    write_punctuation(out / "punc", variant=punc, size=size, tokens=punc_list, user_dict=dict_lines)
    typer.echo(f"Wrote {out}/asr, {out}/vad and {out}/punc ({size}, random weights).")


if __name__ == "__main__":
    typer.run(main)
