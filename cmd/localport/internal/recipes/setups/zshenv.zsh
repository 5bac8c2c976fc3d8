# ~/.zshenv: for every zsh, with or without a prompt.
eval "$(localport lease --if-project)"
