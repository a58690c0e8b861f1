"""Worker processes of the local engine: a fork server, the processes it makes, and what they run and report."""
