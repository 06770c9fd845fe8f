"""Programs that run inside a sandbox, from the trusted tree; `blocked_reader` is also imported on the host."""
