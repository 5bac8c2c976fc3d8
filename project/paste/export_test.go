package paste

// SplitWords returns the words of all commands of a text.
func SplitWords(text string) (words []string, err error) {
	commands, err := splitCommands(text)
	for _, command := range commands {
		words = append(words, command.words...)
	}
	return words, err
}
