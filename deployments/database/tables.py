"""The tables, as the newest migration leaves them.

Times are seconds since 1970. Lists and objects are JSON in text columns.
"""

from __future__ import annotations

import sqlalchemy as sa

from deployments.core.jobs.model import KEY_CHARS, NAME_CHARS

ID_CHARS = 40

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(ID_CHARS), primary_key=True),
    sa.Column("owner", sa.String(ID_CHARS), nullable=False),  # the id of an API key; "": no key
    sa.Column("name", sa.String(NAME_CHARS), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # it follows from those of the files
    sa.Column("created_s", sa.Double, nullable=False),
    sa.Column("finished_s", sa.Double),
    sa.Column("expires_s", sa.Double),  # a file that has not begun by then fails
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("labels", sa.Text, nullable=False),  # the client's own `metadata`
    sa.Column("webhook_url", sa.Text),
    sa.Column("idempotency_key", sa.String(KEY_CHARS)),
    sa.Column("body_hash", sa.String(64), nullable=False),  # SHA-256 of fields and files
)
sa.Index("jobs_by_time", jobs.c.owner, jobs.c.created_s, jobs.c.id)
sa.Index("jobs_by_end", jobs.c.finished_s)
sa.Index("jobs_by_idempotency_key", jobs.c.owner, jobs.c.idempotency_key, unique=True)

files = sa.Table(
    "files",
    metadata,
    sa.Column(
        "job", sa.String(ID_CHARS), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("number", sa.Integer, primary_key=True),  # of the file in its job, from 0
    sa.Column("name", sa.String(NAME_CHARS), nullable=False),
    sa.Column("url", sa.Text),  # where it is fetched from; null for an upload
    sa.Column("object_key", sa.Text),  # of the recording; null until it is fetched
    sa.Column("n_bytes", sa.BigInteger),
    sa.Column("sha256", sa.String(64)),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("created_s", sa.Double, nullable=False),
    sa.Column("started_s", sa.Double),
    sa.Column("finished_s", sa.Double),
    sa.Column("not_before_s", sa.Double, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),  # counts the leases; the newest may write
    sa.Column("worker", sa.String(ID_CHARS)),
    sa.Column("lease_until_s", sa.Double, nullable=False),
    sa.Column("n_failures", sa.Integer, nullable=False),  # attempts that may be tried again
    sa.Column("basis", sa.String(64)),  # of the journal: another recording or model begins anew
    sa.Column("is_planned", sa.Boolean, nullable=False),  # the VAD has read to the end
    sa.Column("duration_ms", sa.BigInteger),  # of the recording; null until it is decoded
    sa.Column("done_ms", sa.BigInteger, nullable=False),  # of speech that is recognised
    sa.Column("speech_ms", sa.BigInteger, nullable=False),  # that was found so far
    sa.Column("error_code", sa.String(40)),
    sa.Column("error", sa.Text),
    sa.Column("edits", sa.Text),  # texts by segment that a person has written
)
sa.Index("files_next", files.c.state, files.c.priority, files.c.created_s)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("job", sa.String(ID_CHARS), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=False),
    sa.Column("answer", sa.Text),  # the recognition; null until there is one
    sa.Column("final", sa.Text),  # the segment as the transcript has it; null until it is final
    sa.ForeignKeyConstraint(
        ["job", "number"], ["files.job", "files.number"], ondelete="CASCADE", name="segments_file"
    ),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.String(ID_CHARS), primary_key=True),  # the `webhook-id` of every attempt
    sa.Column(
        "job", sa.String(ID_CHARS), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("event", sa.String(NAME_CHARS), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # waiting, delivered, stopped
    sa.Column("created_s", sa.Double, nullable=False),
    sa.Column("next_s", sa.Double, nullable=False),  # also the end of a sender's lease
    sa.Column("n_attempts", sa.Integer, nullable=False),
)
sa.Index("deliveries_next", deliveries.c.state, deliveries.c.next_s)
sa.Index("deliveries_by_job", deliveries.c.job)

attempts = sa.Table(
    "delivery_attempts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "delivery",
        sa.String(ID_CHARS),
        sa.ForeignKey("deliveries.id", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Column("status", sa.Integer),  # of the receiver's answer; null where there was none
    sa.Column("error", sa.Text),
    sa.Column("took_ms", sa.Integer, nullable=False),
)
sa.Index("attempts_by_delivery", attempts.c.delivery)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.String(ID_CHARS), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(ID_CHARS), primary_key=True),  # the public part of the key
    sa.Column("name", sa.String(NAME_CHARS), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),  # SHA-256 of the key
    sa.Column("old_hash", sa.String(64)),  # of the key before a rotation
    sa.Column("old_until_s", sa.Double, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("limits", sa.Text, nullable=False),
    sa.Column("created_s", sa.Double, nullable=False),
    sa.Column("expires_s", sa.Double),
    sa.Column("revoked_s", sa.Double),
)

usage = sa.Table(
    "usage",
    metadata,
    sa.Column("day", sa.String(10), primary_key=True),  # in UTC, such as 2026-11-27
    sa.Column("key", sa.String(ID_CHARS), primary_key=True),
    sa.Column("model", sa.String(NAME_CHARS), primary_key=True),
    sa.Column("audio_ms", sa.BigInteger, nullable=False),
    sa.Column("n_requests", sa.BigInteger, nullable=False),
)
