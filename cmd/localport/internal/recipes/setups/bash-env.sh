# A file that BASH_ENV names: for every "bash -c" and every script of bash.
eval "$(localport lease --if-project)"
