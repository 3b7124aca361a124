"""The command line: words in, words out. Nothing heavy is imported before a command needs it."""
