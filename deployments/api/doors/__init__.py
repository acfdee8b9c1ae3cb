"""Who may come in, told before a body is read: keys, sessions, permits, and the audit."""
