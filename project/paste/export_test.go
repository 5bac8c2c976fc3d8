package paste

// SplitWords returns the words of the first command of a text.
func SplitWords(text string) (words []string, err error) {
	commands, err := splitCommands(text)
	if len(commands) > 0 {
		words = commands[0].words
	}
	return words, err
}
