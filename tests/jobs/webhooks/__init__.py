"""Tests of webhooks: the outbox, the sender, and the receiver of the documents."""
