"""The description that `/openapi.json` serves."""

from __future__ import annotations

from typing import Any

from deployments.config import Limits
from deployments.core.formats import DEFAULT_FORMAT, FORMATS
from deployments.core.hints import MAX_HOTWORD_CHARS

TEXT = {"type": "string"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
ERRORS = {
    "400": "A field or the recording cannot be used.",
    "401": "No API key was sent, or one that is not valid.",
    "403": "The API key is not for this.",
    "404": "The model is not served here.",
    "413": "The upload or the recording is over the limit.",
    "415": "The file is of a kind that is not read here.",
    "424": "The server of the URL did not send the recording.",
    "429": "A limit of the API key is reached: try again after Retry-After seconds.",
    "500": "A model failed.",
    "503": "Busy: try again after Retry-After seconds.",
    "504": "A stage met its timeout.",
}

EITHER = {"oneOf": [{"required": ["file"]}, {"required": ["url"]}]}
NUMBER, COUNT = {"type": "number"}, {"type": "integer"}
POOL = {
    "replicas": COUNT | {"description": "that run"},
    "can_start": {"type": "boolean", "description": "whether work may wait for its first replica"},
    "outstanding_chunks": COUNT,
    "outstanding_audio_s": NUMBER | {"description": "of these chunks, padding included"},
    "backlog_audio_s": NUMBER | {"description": "of these chunks, without padding"},
    "slowdown": NUMBER | {"description": "time of a full batch over what was expected"},
    "overhead_ms": NUMBER | {"description": "cost of a chunk of any size, learned"},
    "speed": NUMBER | {"description": "audio seconds a second and replica, without overhead"},
    "full_speed": NUMBER | {"description": "the same on full batches, overhead included"},
    "padding": {
        "type": ["number", "null"],
        "description": "part of the computed audio that was padding, 0..1",
    },
    "ooms": COUNT | {"description": "batches that did not fit into memory and were halved"},
}
BEARER = {"type": "http", "scheme": "bearer", "description": "an API key, where there are any"}
USAGE = {
    "summary": "Seconds of audio by day, key and model",
    "parameters": [
        {"name": name, "in": "query", "schema": TEXT | {"description": says}}
        for name, says in {
            "since": "the first day in UTC, such as 2026-11-01",
            "until": "the last day",
            "key": "the id of one key; another's needs the scope operate",
        }.items()
    ],
    "responses": {"200": {"description": "The rows"}},
}
KEY = {"type": "object", "required": ["key"], "properties": {"key": TEXT}}
SIGN_IN = {
    "summary": "Give a browser a session for an API key",
    "requestBody": {"required": True, "content": {"application/json": {"schema": KEY}}},
    "responses": {"200": {"description": "Who is signed in, and the cookie pc_session"}},
}
SIGN_OUT = {
    "summary": "End the session of a browser",
    "responses": {"204": {"description": "The cookie is gone"}},
}
ID = {"name": "id", "in": "path", "required": True, "schema": TEXT}
READY = {
    "type": "object",
    "required": ["ready"],
    "properties": {
        "ready": {"type": "boolean", "description": "whether a request would be served"},
        "reason": TEXT | {"description": "where nothing else could be asked"},
        "stages": {"type": "object", "additionalProperties": COUNT},
        "pools": {
            "type": "object",
            "additionalProperties": {"type": "object", "properties": POOL},
        },
        "requests": COUNT | {"description": "that are open"},
        "waiting_audio_s": NUMBER | {"description": "not yet given to a pool"},
        "queue_s": NUMBER | {"description": "time that all accepted work will take"},
        "interactive_queue_s": NUMBER | {"description": "the same for a short request"},
        "draining": {"type": "boolean", "description": "the service is being stopped"},
        "held_audio_s": NUMBER | {"description": "in the memory of the router that answers"},
        "max_held_audio_s": NUMBER | {"description": "the bound of held_audio_s"},
    },
}


def document(limits: Limits, *, fetches: bool = False) -> dict[str, Any]:
    """OpenAPI 3.1 of the endpoints, with the limits of this deployment in the descriptions.

    `fetches` says whether a recording may be named by its URL.
    """
    hotwords = {
        "type": "array",
        "items": TEXT | {"maxLength": MAX_HOTWORD_CHARS},
        "maxItems": limits.max_hotwords,
    }
    fields = {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "wav, flac, mp3, m4a, ogg, opus, webm, amr, or the sound of mp4 or "
            f"mkv; at most {limits.max_upload_mb:g} MB and {limits.max_audio_hours:g} hours",
        },
        "url": TEXT
        | {
            "format": "uri",
            "description": "where the recording is, in place of `file`; "
            + ("http or https" if fetches else "not fetched here: fetch.enabled is off"),
        },
        "model": TEXT | {"description": "an id of /v1/models, or one of its `aliases`"},
        "language": TEXT | {"description": "a code or a name, such as zh; auto: not sent"},
        "languages[]": {
            "type": "array",
            "items": TEXT,
            "description": "languages that the recording may have, where language is not sent",
        },
        "prompt": TEXT
        | {"description": f"the model reads the last {limits.max_prompt_chars} characters"},
        "response_format": TEXT | {"enum": list(FORMATS), "default": DEFAULT_FORMAT},
        "timestamp_granularities[]": {
            "type": "array",
            "items": TEXT | {"enum": ["word", "segment"]},
        },
        "stream": {"type": "boolean", "default": False},
        "hotwords[]": hotwords
        | {"description": "words to listen for; the answer's `hotwords` says which were applied"},
        "keywords[]": hotwords | {"description": "OpenAI's name of `hotwords[]`"},
        "itn": {
            "type": "boolean",
            "default": False,
            "description": "write spoken numbers in digits: 三百零五 as 305",
        },
        "channel": {"type": "integer", "minimum": 0, "description": "one channel, not the mix"},
    }
    transcription = {
        "summary": "Transcribe a recording",
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": fields}
                    | (EITHER if fetches else {"required": ["file"]})
                }
            },
        },
        "responses": {
            "200": {
                "description": "The transcript in the format asked for",
                "content": {
                    media_type: {"schema": {}}
                    for media_type in sorted({form.media_type for form in FORMATS.values()})
                }
                | {"text/event-stream": {"schema": {}}},
            }
        }
        | {
            status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
            for status, text in ERRORS.items()
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "paraformer-cluster", "version": "0.1.0"},
        "components": {"securitySchemes": {"key": BEARER}},
        "security": [{"key": []}, {}],
        "paths": {
            "/v1/audio/transcriptions": {"post": transcription},
            "/v1/models": {"get": _get("The served model, and how it runs")},
            "/v1/models/{id}": {"get": _get("That model") | {"parameters": [ID]}},
            "/v1/usage": {"get": USAGE},
            "/v1/session": {
                "get": _get("Who is signed in, and whether keys are needed"),
                "post": SIGN_IN,
                "delete": SIGN_OUT,
            },
            "/healthz": {"get": _get("200 while the process lives")},
            "/readyz": {"get": _ready()},
        },
    }


def _ready() -> dict[str, Any]:
    body = {"content": {"application/json": {"schema": READY}}}
    return {
        "summary": "Whether a request would be served, and what every pool has to do",
        "responses": {
            "200": {"description": "It would be served"} | body,
            "503": {"description": "It would not yet"} | body,
        },
    }


def _get(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary}}}
