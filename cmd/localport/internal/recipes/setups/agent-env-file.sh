# For an agent that reads a file before each of its commands: a command that the agent runs at the start of its session, with the path of that
# file. The forwards stay as long as the agent lives.
localport lease --if-project >>"$ENV_FILE"
