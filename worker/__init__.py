"""The shell around the state machine: intake, engine, deadlines, builder, relay, HTTP, and the composition root."""
